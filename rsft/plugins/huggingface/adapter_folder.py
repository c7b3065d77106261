"""Write and read the adapter folder of Hugging Face PEFT."""

import copy
from pathlib import Path

from torch import nn

from rsft.peft import AdaptedModel, LinearProbe, attach
from rsft.peft.model.state_files import write_tensors
from rsft.plugins.huggingface.module import TunerModule
from rsft.utils.dependencies import require

_WEIGHTS_FILE = "adapter_model.safetensors"


def write_adapter_folder(adapted: AdaptedModel, folder: Path, base: str | None) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    Args:
        adapted: a model with the method `hf`.
        folder: an existing folder.
        base: name of the frozen network.

    Raises:
        ValueError: the adapter has learned scales.
    """
    if adapted.modulator is not None:
        raise ValueError(
            "the files of peft have no scale for each layer: merge the adapter, which"
            " learned its scales"
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
    write_tensors(folder / _WEIGHTS_FILE, tensors, {"format": "pt"})


def load_adapter_folder(vit: nn.Module, folder: Path) -> AdaptedModel:
    """Load a local adapter folder by peft into a network of timm.

    Returns:
        The network, whose layers are those of peft.
    """
    adapter = require("peft", "").PeftModel.from_pretrained(vit, str(folder))
    return attach(adapter.base_model.model, LinearProbe())
