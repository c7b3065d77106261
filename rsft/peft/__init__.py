"""Parameter-efficient fine-tuning of a frozen vision transformer, with one scale for every site, fixed or learned.

The package works with any timm ViT, and with timm's ResNet, ConvNeXt and Swin:

    adapted = rsft.peft.attach(vit, LoRA(rank=4, positions="qkvo12", blocks="all"), learn_scales=True)
    tokens = adapted.forward_features(images)  # train adapted.theta, and adapted.gamma in an outer loop
    adapted.save("adapter.safetensors")
    vit = adapted.merge()

The public names are imported when they are first used, so that `rsft.peft.methods` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsft.peft.huggingface import export_peft, import_peft
    from rsft.peft.methods.baselines import FullTuning, LinearProbe
    from rsft.peft.methods.bottleneck import Adapter, AdaptFormer
    from rsft.peft.methods.composite import CompositeMethod, LoRAWithAdaptFormer
    from rsft.peft.methods.lora import LoRA, LoTR
    from rsft.peft.methods.prompts import VPTDeep, VPTShallow
    from rsft.peft.methods.registry import METHODS, Method, register
    from rsft.peft.methods.selective import BitFit, LayerNormTuning
    from rsft.peft.methods.ssf import SSF
    from rsft.peft.model.adapted_model import AdaptedModel
    from rsft.peft.model.attach import attach, load
    from rsft.peft.model.class_token import class_token_features
    from rsft.peft.model.site_outputs import observe_additions
    from rsft.peft.modulator import Modulator, gamma_to_scale
    from rsft.peft.sites import POSITIONS, Site, select_blocks, select_positions

__all__ = [
    "METHODS",
    "POSITIONS",
    "SSF",
    "AdaptFormer",
    "AdaptedModel",
    "Adapter",
    "BitFit",
    "CompositeMethod",
    "FullTuning",
    "LayerNormTuning",
    "LinearProbe",
    "LoRA",
    "LoRAWithAdaptFormer",
    "LoTR",
    "Method",
    "Modulator",
    "Site",
    "VPTDeep",
    "VPTShallow",
    "attach",
    "class_token_features",
    "export_peft",
    "gamma_to_scale",
    "import_peft",
    "load",
    "observe_additions",
    "register",
    "select_blocks",
    "select_positions",
]

_MODULES = {
    "huggingface": ("export_peft", "import_peft"),
    "methods.baselines": ("FullTuning", "LinearProbe"),
    "methods.bottleneck": ("AdaptFormer", "Adapter"),
    "methods.composite": ("CompositeMethod", "LoRAWithAdaptFormer"),
    "methods.lora": ("LoRA", "LoTR"),
    "methods.prompts": ("VPTDeep", "VPTShallow"),
    "methods.registry": ("METHODS", "Method", "register"),
    "methods.selective": ("BitFit", "LayerNormTuning"),
    "methods.ssf": ("SSF",),
    "model.adapted_model": ("AdaptedModel",),
    "model.attach": ("attach", "load"),
    "model.class_token": ("class_token_features",),
    "model.site_outputs": ("observe_additions",),
    "modulator": ("Modulator", "gamma_to_scale"),
    "sites": ("POSITIONS", "Site", "select_blocks", "select_positions"),
}
_MODULE_OF = {name: f"rsft.peft.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return all public names, imported or not."""
    return sorted({*globals(), *__all__})
