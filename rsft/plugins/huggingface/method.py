"""The PEFT method `hf`: any tuner of the installed package peft."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from rsft.peft.settings import Blocks, Positions
from rsft.utils.dependencies import require
from rsft.utils.settings import Setting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.model.adapted_model import AdaptedModel
    from rsft.peft.modules.adapter_module import AdapterModule

_WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class HuggingFaceMethod:
    """Any tuner of Hugging Face PEFT that adapts single layers.

    Source: https://github.com/huggingface/peft. The error of an unknown tuner lists the
    tuners of the installed version; one that cannot be used is refused with the reason.

    A learned scale m multiplies what a tuner adds to the output of a layer: with the
    output W h + b of the frozen layer and y of the adapted one, it gives
    W h + b + m (y - W h - b).

    Attributes:
        config: `peft_type`, the name of a tuner such as OFT, VERA or DORA (LoRA with
            use_dora), and the settings of its configuration class.
        positions: letters of "qkvo12", a list of names, or "all", as for LoRA. A tuner
            adapts a layer as a whole: q, k and v of a fused qkv layer are named
            together.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.

    Example:
        >>> import timm
        >>> from rsft.peft import attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> config = {"peft_type": "IA3"}
        >>> adapted = attach(vit, HuggingFaceMethod(config, "o", "last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        192
    """

    name: ClassVar = "hf"
    title: ClassVar = "Hugging Face PEFT"
    is_identity_at_init: ClassVar = False  # some tuners start at random values

    config: Annotated[
        Mapping[str, Any],
        Setting(
            "tuner of Hugging Face PEFT (peft_type) and its settings",
            words="settings of a tuner, such as {peft_type: OFT, oft_block_size: 32}",
        ),
    ] = field(default_factory=lambda: {"peft_type": "LORA"})
    positions: Positions = "qkvo12"
    blocks: Blocks = "all"

    @property
    def full_title(self) -> str:
        """The name of the tuner, for reports."""
        return f"{self.config.get('peft_type')} of {self.title}"

    @property
    def packages(self) -> dict[str, str]:
        """Version and SHA-256 of the files of the installed package peft."""
        try:
            distribution = metadata.distribution("peft")
        except metadata.PackageNotFoundError:
            return {}
        record = distribution.read_text("RECORD") or ""  # has the hash of every file
        digest = hashlib.sha256(record.encode()).hexdigest()
        return {"peft": f"{distribution.version} sha256:{digest}"}

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the layers of the tuner around the selected layers of a network."""
        from rsft.plugins.huggingface.module import TunerModule

        return [TunerModule(vit, self.config, self.positions, self.blocks)]

    def export_peft(
        self, adapted: AdaptedModel, folder: Path | str, base: str | None = None
    ) -> None:
        """Write the adapter as a folder that `PeftModel.from_pretrained` reads.

        Args:
            adapted: a model with this method.
            folder: an existing folder.
            base: name of the frozen network.

        Raises:
            ValueError: the adapter has learned scales.
        """
        from rsft.peft.model.state_files import write_tensors
        from rsft.plugins.huggingface.module import TunerModule

        if adapted.modulator is not None:
            raise ValueError(
                "the files of peft have no scale for each layer: merge the adapter,"
                " which learned its scales"
            )
        (module,) = adapted.adapter_modules
        assert isinstance(module, TunerModule)
        config = copy.copy(module.peft_config)
        config.inference_mode = True
        config.base_model_name_or_path = base
        for name, value in vars(module.peft_config).items():
            if isinstance(value, set):
                setattr(config, name, sorted(value))
        config.save_pretrained(str(folder))
        tensors = {name: x.detach().clone() for name, x in module.peft_state().items()}
        write_tensors(Path(folder, _WEIGHTS_FILE), tensors, {"format": "pt"})

    def import_peft(self, vit: nn.Module, folder: Path | str) -> AdaptedModel:
        """Return a network with the adapter of a local folder, loaded by peft itself.

        Its layers are those of peft.
        """
        from rsft.peft import LinearProbe, attach

        adapter = require("peft", "").PeftModel.from_pretrained(vit, str(folder))
        return attach(adapter.base_model.model, LinearProbe())
