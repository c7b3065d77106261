"""Make a bundle of a LoRA adapter of Hugging Face PEFT on a ViT of timm.

Nothing of the adapter is dropped: what a recipe cannot name is refused.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rsft.backbones import Backbone
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle, source_license
from rsft.models.loading import load_encoder
from rsft.peft import AdaptedModel, LoRA
from rsft.peft.huggingface import bypasses_peft, import_peft
from rsft.recipe.schema import Recipe
from rsft.types import JsonObject, Names
from rsft.utils.atomic_files import check_is_free
from rsft.utils.licenses import UNKNOWN
from rsft.utils.untrusted.documents import check_regular, load_json

_ADAPTER_FILE = "adapter_model.safetensors"
_CONFIG_FILE = "adapter_config.json"
_HEAD_FILE = "head.safetensors"
_TIMM_HUB = "timm/"


class _AdapterConfig(BaseModel):
    """The keys of adapter_config.json that are read.

    Hugging Face PEFT writes them; others are checked later.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    base_model_name_or_path: str | None = None
    lora_alpha: float = 8.0
    lora_dropout: float = 0.0
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None


class ImportedInput(NamedTuple):
    """How an adapter was trained to read images of bytes; nothing in its files says so.

    Attributes:
        size: side of the network's input in pixels.
        bands: names of the bands of an image; one band is repeated for all inputs of
            the network.
        mean: mean of each input, 0-1; None takes that of the encoder. `std` likewise.
        pool: "token" or "avg", as in a recipe.
    """

    size: int
    bands: Names = ("R", "G", "B")
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pool: str = "token"


def import_adapter(
    folder: Path,
    output: Path,
    classes: Sequence[str],
    inputs: ImportedInput,
    *,
    backbone: str | None = None,
    weights: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle that gives the logits of a foreign adapter and its linear head.

    Args:
        folder: adapter_config.json and adapter_model.safetensors of Hugging Face PEFT.
            The head is the module in modules_to_save, or the file head.safetensors with
            "weight" and "bias".
        output: folder of the bundle.
        classes: names in the order of the logits.
        inputs: how images become the network's input.
        backbone: name of the encoder (default: the base that the adapter names, if it
            is one of timm).
        weights: file of the encoder's weights (default: those of the encoder).
        overwrite: replace an existing folder.

    Returns:
        The bundle.

    Raises:
        RequestError: a file is missing, the encoder is unknown or another one, or the
            adapter has something that a bundle cannot hold.
        WeightsError: a file is damaged, or its tensors do not fit the encoder or the
            classes.
    """
    check_is_free(output, overwrite)
    name = _encoder_name(_read_config(folder).base_model_name_or_path, backbone)
    content: JsonObject = {
        "name": "imported",
        "data": {"root": str(folder), "size": inputs.size},
        "backbone": {
            "name": name,
            "weights": weights and str(weights),
            "pool": inputs.pool,
        },
        "head": {"kind": "linear"},
        "train": {"epochs": 1},
    }
    encoder = load_encoder(_recipe(content), inputs.bands)
    if encoder.unit != "uint8":
        raise RequestError(
            f"{encoder.name} takes {encoder.unit}, not bytes",
            "--backbone",
            "train a recipe instead",
        )
    adapted, head = _attach_adapter(encoder, folder)
    _check_head(head, len(classes), encoder.width, folder)
    content["peft"] = _method_keys(adapted, folder)
    tensors = adapted.adapter_state() | {
        f"head.{key}": tensor for key, tensor in head.items()
    }
    faults = [
        name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()
    ]
    if faults:
        raise WeightsError(
            f"{', '.join(faults[:3])} holds NaN or infinity",
            folder,
            "save the adapter again",
        )
    bundle = Bundle(
        recipe=_recipe(content),
        classes=tuple(classes),
        groups={},
        train_counts=(0,) * len(classes),
        contract=_byte_contract(inputs, encoder),
        backbone_sha256=encoder.sha256,
        tensors=tensors,
        licenses=(
            source_license("backbone", name, encoder.license),
            source_license("data", "", UNKNOWN),
        ),
    )
    bundle.save(output)
    return bundle


def _attach_adapter(
    encoder: Backbone, folder: Path
) -> tuple[AdaptedModel, dict[str, Tensor]]:
    """Return the encoder with the adapter, and the tensors of its head."""
    head: dict[str, Tensor] = {}
    try:
        adapted = import_peft(encoder.vit, folder, head)
        return adapted, head or load_file(folder / _HEAD_FILE)
    except FileNotFoundError as error:
        hint = (
            'train it with modules_to_save=["head"], or put weight and bias of the head'
            " into head.safetensors"
        )
        raise RequestError(
            "the adapter has no classifier head", folder, hint
        ) from error
    except (ValueError, SafetensorError) as error:
        hint = "a bundle holds LoRA on attention and MLP layers, and one linear head"
        raise WeightsError(
            str(error).removeprefix(f"{folder}: "), folder, hint
        ) from error
    except (
        AttributeError,
        ArithmeticError,
        LookupError,
        RuntimeError,
        TypeError,
        re.error,
    ) as error:
        raise WeightsError(
            f"a pattern in {_CONFIG_FILE}, or the shape of a tensor, is not one that"
            " Hugging Face PEFT writes",
            folder,
            "save the adapter again",
        ) from error


def _byte_contract(inputs: ImportedInput, encoder: Backbone) -> Contract:
    """Return the contract of images of bytes, which are not stretched."""
    mean = inputs.mean or encoder.mean
    std = inputs.std or encoder.std
    for option, values in {"--mean": mean, "--std": std}.items():
        if len(values) != len(encoder.bands):
            raise RequestError(
                f"{len(values)} values for {len(encoder.bands)} inputs",
                option,
                "give one per input",
            )
    return Contract(
        units={"uint8": (IDENTITY_STRETCH,) * len(encoder.bands)},
        bands=inputs.bands,
        planes=encoder.bands,
        crop=None,
        size=inputs.size,
        mean=mean,
        std=std,
    )


def _read_config(folder: Path) -> _AdapterConfig:
    """Read adapter_config.json, and check that the weights are safetensors."""
    hint = "give the folder of save_pretrained"
    try:
        config = load_json(folder / _CONFIG_FILE)
        check_regular(folder / _ADAPTER_FILE)
        return _AdapterConfig.model_validate(config)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"])) or "its content"
        raise WeightsError(
            f"{_CONFIG_FILE} is damaged: {key}: {fault['msg']}", folder, hint
        ) from error
    except (OSError, ValueError) as error:
        if (folder / "adapter_model.bin").exists():
            hint = (
                "save it as safetensors (safe_serialization=True): a pickle can run any"
                " code"
            )
        if isinstance(error, FileNotFoundError):
            message = f"the folder has no {Path(error.filename).name}"
        else:
            message = str(error)
        raise RequestError(
            f"no adapter of Hugging Face PEFT can be read: {message}", folder, hint
        ) from error


def _encoder_name(base: str | None, backbone: str | None) -> str:
    """Return the name of the encoder, given the base that the adapter names, if any."""
    if base and base.startswith(_TIMM_HUB):
        named = base.removeprefix(_TIMM_HUB)
    else:
        named = None
    if backbone is None and named is None:
        raise RequestError(
            "the adapter does not name a base of timm (base_model_name_or_path:"
            f" {base})",
            "",
            "name the encoder: --backbone NAME, and its file with --weights",
        )
    if (
        backbone
        and named
        and backbone.removeprefix("timm:").partition(".")[0] != named.partition(".")[0]
    ):
        raise RequestError(
            f"the adapter was trained on {named}",
            "--backbone",
            f"give --backbone {named}",
        )
    return str(backbone or named)


def _recipe(content: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise RequestError(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            "",
            "correct the option",
        ) from error


def _method_keys(adapted: AdaptedModel, folder: Path) -> dict[str, Any]:
    """Return the section peft of a recipe that attaches the same modules."""
    method = adapted.method
    if not isinstance(method, LoRA):
        message = (
            "the adapter trains biases (lora_bias), which a recipe cannot name beside"
            " LoRA"
        )
        raise RequestError(message, folder, "train it without lora_bias")
    if bypasses_peft(adapted):
        message = (
            "LoRA at qkv had an effect only with qkv_bias_separate, which no file of"
            " the adapter states"
        )
        raise RequestError(
            message, folder, "merge it where it was trained, and use the merged weights"
        )
    assert isinstance(method.rank, Mapping) and isinstance(method.scale, Mapping)
    ranks = {site: rank for site, rank in method.rank.items() if rank}
    is_grid = (
        len(ranks) == len(method.positions) * len(method.blocks)
        and len(set(ranks.values())) == 1
    )
    scales = set(method.scale.values())
    return {
        "method": "lora",
        "rank": next(iter(ranks.values())) if is_grid else dict(method.rank),
        "positions": list(method.positions),
        "blocks": list(method.blocks),
        "scale": scales.pop() if len(scales) == 1 else dict(method.scale),
        "dropout": method.dropout,
    }


def _check_head(
    head: Mapping[str, Tensor], classes: int, width: int, folder: Path
) -> None:
    """Check that the head is a linear layer for the classes."""
    shapes = {key: tuple(tensor.shape) for key, tensor in head.items()}
    if (
        set(shapes) != {"weight", "bias"}
        or len(shapes["weight"]) != 2
        or shapes["weight"][1] != width
    ):
        raise WeightsError(
            (
                f"the head has {json.dumps(shapes)}, not the weight (classes, {width})"
                " and the bias of a linear layer"
            ),
            folder,
            "a bundle holds one linear head on the final features",
        )
    if shapes["weight"][0] != classes:
        raise RequestError(
            f"{classes} names for the {shapes['weight'][0]} classes of the head",
            "--classes",
        )
