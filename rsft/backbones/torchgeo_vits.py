"""Cards of TorchGeo's vision transformers, ResNets and Swins.

They are for Sentinel-1, Sentinel-2, Landsat, NAIP and fMoW.

Names, addresses, bands and normalization come from TorchGeo's enums. TorchGeo does not
state the unit of the input, the license of the weights, and which tensors of a file do
not belong to the encoder. The unit is inferred from the numbers of the normalization;
the rest is a table by repository.

`import torchgeo.models` takes about a second, so that `rsft backbones ls` reads
encoders.json instead.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from rsft.backbones.card import Card, Remote, State, drop_tensors
from rsft.backbones.mae import DECODER
from rsft.backbones.registered import registered_cards
from rsft.backbones.timm_vits import (
    STRIDE,
    build_hierarchical,
    build_timm_vit,
    is_hierarchical_model,
)
from rsft.errors import RequestError
from rsft.types import Names

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each band; one number stands for all bands."""


@dataclass(frozen=True)
class PublishedWeights:
    """One member of an enum of TorchGeo.

    Attributes:
        name: enum and member, such as "ViTSmall16_Weights.SENTINEL1_GRD_MAE".
        model: TorchGeo's name of the network, such as "vit_small_patch16_224".
        url: address of the file.
        dataset: data set of the pre-training.
        method: method of the pre-training.
        bands: TorchGeo's names of the bands; empty if it does not name them.
        size: side of the input in pixels; None if TorchGeo does not state it.
        normalizations: the steps of TorchGeo's transforms that normalize, in order.
    """

    name: str
    model: str
    url: str
    dataset: str | None
    method: str | None
    bands: Names
    size: int | None
    normalizations: tuple[Normalization, ...]


@cache
def published_weights() -> dict[str, PublishedWeights]:
    """Return all weights that the installed TorchGeo publishes, by name.

    They are in the order of its `list_models`.
    """
    return {weights.name: weights for weights in read_enums()}


def read_enums() -> Iterator[PublishedWeights]:
    """Import TorchGeo, and yield the members of its enums of weights.

    They are in the order of its `list_models`.
    """
    from torchgeo.models import get_model_weights, list_models
    from torchvision.transforms.v2 import Normalize

    for model in list_models():
        try:
            enum: Any = get_model_weights(model)
        except KeyError:  # a network without published weights
            continue
        for member in enum:
            meta = member.meta
            steps = []
            for step in member.transforms.modules():
                if isinstance(step, Normalize):
                    mean = tuple(map(float, step.mean))
                    steps.append((mean, tuple(map(float, step.std))))
            yield PublishedWeights(
                name=str(member),
                model=model,
                url=member.url,
                dataset=meta.get("dataset"),
                method=meta.get("ssl_method"),
                bands=tuple(meta.get("bands") or ()),
                size=meta.get("img_size"),
                normalizations=tuple(steps),
            )


TIMM_NAMES = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
}
"""timm's name of each network of torchvision."""

_RENAMES = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)
_COMPUTED = (".relative_position_index", ".relative_coords_table")
"""Ends of tensors that follow from the size of the windows."""


def convert_torchvision_swin(state: State) -> State:
    """Return the tensors of a Swin or Swin V2 of torchvision under timm's names.

    timm's networks compute the same. torchvision's blocks pass the weights of qkv and
    proj to a function instead of calling the layers, so PEFT modules have no effect in
    them. torchvision has one bias for queries, keys and values of a Swin V2 and sets
    that of the keys to zero in each pass; timm has no bias for keys.

    Returns:
        Name -> tensor, without copies. Unknown tensors keep their names, so that the
        loader refuses them.
    """

    def stage(match: re.Match[str]) -> str:
        number = int(match[1])  # 0 is the embedding, even ones merge patches
        return f"layers.{number // 2}.{'blocks' if number % 2 else 'downsample'}."

    is_v2 = any(name.endswith(".logit_scale") for name in state)
    converted: State = {}
    for name, tensor in drop_tensors(state, "head").items():
        if name.endswith(_COMPUTED):
            continue
        for pattern, text in _RENAMES:
            name = re.sub(pattern, text, name)
        name = re.sub(r"^features\.(\d+)\.", stage, name)
        if is_v2 and name.endswith(".attn.qkv.bias"):
            attention = name.removesuffix("qkv.bias")
            query, _, value = tensor.chunk(3)
            converted |= {f"{attention}q_bias": query, f"{attention}v_bias": value}
        else:
            converted[name] = tensor
    return converted


PREFIX = "torchgeo:"
_HUB = "https://huggingface.co/"
_SIZE = 224  # of inputs whose size TorchGeo does not state
# the crop in TorchGeo's transforms for Satlas, and the size of torchvision's Swin V2
_SATLAS_SIZE = 256
# the authors publish checkpoints of whole masked autoencoders
_MAE_UNUSED = ("head", *DECODER)
_SCALE_MAE = "scalemae_large_patch16"


_LICENSES = {
    "DarthReca/CLOSP-Visual": "CreativeML-OpenRAIL-M",
    "torchgeo/vit_small_patch16_224_sentinel2_all_dino": "CC-BY-4.0",
    "torchgeo/vit_small_patch16_224_sentinel2_all_moco": "CC-BY-4.0",
    "torchgeo/ssl4eo_landsat": "CC0-1.0",
    "torchgeo/satlas": "ODC-BY",
    "torchgeo/decur": "Apache-2.0",
    "torchgeo/seco-eco": "MIT",
    "torchgeo/seco-eco-ndvi": "MIT",
    "torchgeo/resnet18_sentinel2_all_moco": "CC-BY-4.0",
    "torchgeo/resnet18_sentinel2_rgb_moco": "CC-BY-4.0",
    "torchgeo/resnet18_sentinel2_rgb_seco": "Apache-2.0",
    "torchgeo/resnet50_sentinel1_all_moco": "CC-BY-4.0",
    "torchgeo/resnet50_sentinel2_all_dino": "CC-BY-4.0",
    "torchgeo/resnet50_sentinel2_all_moco": "CC-BY-4.0",
    "torchgeo/resnet50_sentinel2_rgb_moco": "CC-BY-4.0",
    "torchgeo/resnet50_sentinel2_rgb_seco": "Apache-2.0",
    "isaaccorley/vit_large_patch16_224_fmow_rgb_scalemae": "CC-BY-NC-4.0",
    "wangyi111/FGMAE": "CC-BY-4.0",
    "wangyi111/SSL4EO-S12": "CC-BY-4.0",
    "wangyi111/softcon": "CC-BY-4.0",
}
"""License of the weights by repository, from the tables in TorchGeo's documentation; it
states none for GASSL."""

_UNUSED = {
    "wangyi111/FGMAE": (*_MAE_UNUSED, "hog"),
    "wangyi111/SSL4EO-S12": _MAE_UNUSED,
    "wangyi111/softcon": ("head", "mask_token"),
}
"""Modules and tensors of the files of a repository that do not belong to the encoder;
elsewhere only the head."""

_TRUE_COLOR = {"B04": "TCI_R", "B03": "TCI_G", "B02": "TCI_B"}
"""Bands of the true-color image (bytes), which Satlas stacks with digital numbers of
other bands in a 16-bit file.

Source: https://github.com/allenai/satlas/blob/main/Normalization.md. TorchGeo calls
them B04, B03 and B02."""

_SCALE_MAE_FILE = (
    1_213_304_038,
    "386989c9cf349a5045c2ac76f7d0225ae3a54b2a2c158fa87e5df5103e5d9ed9",
)
_CHECKSUMS: dict[str | None, tuple[int, str]] = {
    # Landsat OLI, SimCLR
    "4e8f6102": (
        88_283_541,
        "4e8f61023fdb7f3aff2eb91efe4aab4f50bdf05f59b3a07afddf40d1195d6940",
    ),
    # Sentinel-2, DINO
    "36bcc127": (
        90_644_269,
        "36bcc1273227252faf98e1d9f32c35166d3612d30dc0c15812c29bed6da9a7d5",
    ),
    # Sentinel-2, MoCo
    "67c9032d": (
        90_668_909,
        "67c9032df0449ae37f93c51696bcae0c6dc3485103deb44b4669e9897b90409c",
    ),
    # the digits in the name of the file are not those of its hash
    "98ed9821": _SCALE_MAE_FILE,
    "386989c9": _SCALE_MAE_FILE,  # in its name in TorchGeo 0.10
}
"""Size in bytes and SHA-256, from the hub's commits, by the digits in the name of a
file. Of other files only these digits are known, if any."""

_SENSORS = {
    "LANDSAT_TM": "Landsat 4, 5",
    "LANDSAT_ETM": "Landsat 7",
    "LANDSAT_OLI": "Landsat 8, 9",
    "LANDSAT": "Landsat",
    "SENTINEL1": "Sentinel-1",
    "SENTINEL2": "Sentinel-2",
    "NAIP": "NAIP aerial images",
    "FMOW": "WorldView, GeoEye, QuickBird",
    "CITYSCAPES": "photographs",
}
"""Sensor by the first letters of the member of a weights enum."""

_REFUSED = {
    "Unet": (
        "its last layers enlarge the image again, and it has no features of the whole"
        " image"
    ),
    "Aurora": (
        "it predicts the weather from fields of several levels, not from an image"
    ),
    "DEO": "it merges its tokens from stage to stage in a way that rsft does not know",
    "": "its network is not a timm model",
}
"""Why a network cannot be fine-tuned, by the begin of its name."""


def _cards_of_file(url: str) -> list[str]:
    """Return the registered encoders with the weights file of a URL."""
    file = url.rpartition("/")[2]
    return [
        name
        for name, card in registered_cards().items()
        if isinstance(card.weights, Remote) and card.weights.file == file
    ]


def torchgeo_names() -> list[str]:
    """Return the names of TorchGeo's weights that have a card."""
    return [
        weights.name
        for weights in published_weights().values()
        if _architecture(weights) and _scale(weights)
    ]


def torchgeo_card(name: str) -> Card | None:
    """Return the card of weights that TorchGeo publishes.

    Args:
        name: enum and member; the prefix "torchgeo:" is optional.

    Returns:
        The card; None if the name is not that of TorchGeo weights.

    Raises:
        RequestError: the network of the weights cannot be fine-tuned.
    """
    weights_name = name.removeprefix(PREFIX)
    if weights_name == name and "_Weights" not in name:
        return None
    weights = published_weights().get(weights_name)
    if weights is None:
        return None
    names = _cards_of_file(weights.url)
    if names:
        raise RequestError(
            f"{weights_name} of TorchGeo holds encoders of several sensors",
            "backbone.name",
            f"use {' or '.join(names)}",
        )
    architecture = _architecture(weights)
    scale = _scale(weights)
    if architecture and scale is not None:
        return _card(weights, architecture, *scale)
    if not architecture:
        begin = next(begin for begin in _REFUSED if weights_name.startswith(begin))
        reason = _REFUSED[begin]
    elif weights.normalizations:
        reason = (
            "the unit of its input does not follow from the normalizations that"
            " TorchGeo declares"
        )
    else:
        reason = "TorchGeo declares neither unit nor normalization of its input"
    raise RequestError(
        f"{weights_name} of TorchGeo cannot be fine-tuned: {reason}",
        "backbone.name",
        "`rsft backbones ls torchgeo` lists the weights that work",
    )


def _card(
    weights: PublishedWeights,
    network: str,
    unit: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Card:
    url = weights.url.replace("https://hf.co/", _HUB)
    hub_name = "/".join(url.removeprefix(_HUB).split("/")[:2])
    file = url.rpartition("/")[2]
    match = re.search(r"-([0-9a-f]{8})\.pth$", file)
    digits = match and match[1]
    size_in_bytes, digest = _CHECKSUMS.get(digits, (None, digits))
    if is_hierarchical_model(network):
        patch = STRIDE
        pads = weights.model in TIMM_NAMES
        build = partial(build_hierarchical, network, pads=pads, in_chans=len(mean))
    else:
        patch = int(network.split("_patch")[1].split("_")[0])
        build = partial(build_timm_vit, network, patch, in_chans=len(mean))
    size = weights.size
    if size is None:
        size = _SATLAS_SIZE if weights.model.startswith("swin_v2") else _SIZE
    training = " by ".join(filter(None, (weights.dataset, weights.method)))
    member = weights.name.partition(".")[2]
    sensors = [text for begin, text in _SENSORS.items() if member.startswith(begin)]
    return Card(
        name=weights.name,
        about=f"TorchGeo {weights.model}, trained on {training}",
        size=size,
        patch=patch,
        bands=_band_names(weights),
        unit=unit,
        mean=mean,
        std=std,
        license=_LICENSES.get(hub_name, "unknown"),
        weights=Remote(file, url, size_in_bytes, digest, f"{_HUB}{hub_name}"),
        build=build,
        convert=_converter(weights.model, hub_name),
        sensor=sensors[0] if sensors else "several sensors",
    )


def _converter(model: str, hub_name: str) -> Callable[[State], State]:
    """Return what makes the tensors of an encoder of those in its file."""
    if model in _CONVERTERS:
        return _CONVERTERS[model]
    unused = _UNUSED.get(hub_name, ("head",))
    if model.startswith("resnet"):
        unused = ("fc",)
    return lambda state: drop_tensors(state, *unused)


def _architecture(weights: PublishedWeights) -> str | None:
    """Return timm's name of the network; None if rsft does not adapt it."""
    if weights.model == _SCALE_MAE:
        return "vit_large_patch16_224"
    if weights.model.startswith(("vit_", "resnet")):
        return weights.model
    return TIMM_NAMES.get(weights.model)


def _band_names(weights: PublishedWeights) -> Names:
    if weights.name.endswith("_MS_SATLAS"):
        return tuple(_TRUE_COLOR.get(band, band) for band in weights.bands)
    if "SENTINEL2" in weights.name:
        return tuple(map(_sentinel2_band, weights.bands))
    return weights.bands or ("R", "G", "B")


def _sentinel2_band(band: str) -> str:
    """Return B01 for TorchGeo's B1, and B8A for B8a; NDVI stays."""
    if re.fullmatch(r"B\d+a?", band, re.IGNORECASE):
        return f"B{band[1:].zfill(2)}".upper()
    return band


def _scale(
    weights: PublishedWeights,
) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    """Infer unit, mean and standard deviation from the normalization.

    Returns:
        The three; None if they do not follow from it.
    """
    if not weights.normalizations:
        return None
    (mean, std), *others = weights.normalizations
    if (mean, std) == ((0.0,), (255.0,)):
        unit = "uint8"
        mean, std = others[0] if others else ((0.0,), (1.0,))
    elif others:
        return None
    elif max(std) < 1:  # statistics of bytes that are already scaled to 0-1
        unit = "uint8"
    else:
        unit = "db" if max(mean) < 0 else "uint16"
    bands = len(_band_names(weights))
    return unit, mean * (bands // len(mean)), std * (bands // len(std))


def _convert_scale_mae(state: State) -> State:
    """Drop the head of a Scale-MAE checkpoint and compute its position embedding.

    It is that of pixels of 1 m, TorchGeo's default. For a larger input the embedding is
    resampled, as if its pixels were smaller. Source: Reed et al. 2023, equation 1,
    https://arxiv.org/abs/2212.14532.
    """
    tensors = drop_tensors(state, "head")
    if "cls_token" in tensors:
        width = tensors["cls_token"].shape[-1]
        side = _SIZE // 16
        steps = torch.arange(width // 4) / (width / 4)
        axis = torch.arange(side)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        waves = []
        for coordinate in (columns, rows):
            angles = coordinate.reshape(-1, 1) * 10_000.0**-steps
            waves += [angles.sin(), angles.cos()]
        class_token = torch.zeros(1, width)
        embedding = torch.cat([class_token, torch.cat(waves, dim=1)])
        tensors["pos_embed"] = embedding[None]
    return tensors


_CONVERTERS = {
    _SCALE_MAE: _convert_scale_mae,
    **dict.fromkeys(TIMM_NAMES, convert_torchvision_swin),
}
