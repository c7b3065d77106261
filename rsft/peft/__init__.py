"""Parameter-efficient fine-tuning of a frozen vision transformer.

Every site has one scale, fixed or learned.

The package works with any timm ViT, and with timm's ResNet, ConvNeXt and Swin:

    adapted = rsft.peft.attach(vit, LoRA(rank=4, positions="qkvo12", blocks="all"),
    learn_scales=True) tokens = adapted.forward_features(images)  # train adapted.theta,
    and adapted.gamma in an outer loop adapted.save("adapter.safetensors") vit =
    adapted.merge()

Names that need torch are imported when they are first used, so that the check of a
recipe does not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rsft.peft.methods.builtin import (
    SSF,
    Adapter,
    AdaptFormer,
    BitFit,
    FullTuning,
    LayerNormTuning,
    LinearProbe,
    LoRA,
    LoRAWithAdaptFormer,
    LoTR,
    VPTDeep,
    VPTShallow,
)
from rsft.peft.methods.registry import METHODS, CompositeMethod, Method, register
from rsft.peft.sites import POSITIONS, Site, select_blocks, select_positions

if TYPE_CHECKING:
    from rsft.peft.huggingface import export_peft, import_peft
    from rsft.peft.model.adapted_model import AdaptedModel
    from rsft.peft.model.attach import attach, load
    from rsft.peft.model.class_token import class_token_features
    from rsft.peft.modulator import Modulator, gamma_to_scale

__all__ = [
    "METHODS",
    "POSITIONS",
    "SSF",
    "AdaptFormer",
    "AdaptedModel",
    "Adapter",
    "BitFit",
    "CompositeMethod",
]
__all__ += [
    "FullTuning",
    "LayerNormTuning",
    "LinearProbe",
    "LoRA",
    "LoRAWithAdaptFormer",
    "LoTR",
    "Method",
]
__all__ += [
    "Modulator",
    "Site",
    "VPTDeep",
    "VPTShallow",
    "attach",
    "class_token_features",
    "export_peft",
]
__all__ += [
    "gamma_to_scale",
    "import_peft",
    "load",
    "register",
    "select_blocks",
]
__all__ += ["select_positions"]

_MODULE_OF = {  # of the names that need torch
    **dict.fromkeys(("export_peft", "import_peft"), "huggingface"),
    **dict.fromkeys(("attach", "load"), "model.attach"),
    **dict.fromkeys(("Modulator", "gamma_to_scale"), "modulator"),
    "AdaptedModel": "model.adapted_model",
    "class_token_features": "model.class_token",
}


def __getattr__(name: str) -> Any:
    """Import a public name that needs torch at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
