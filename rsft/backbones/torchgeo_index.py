"""An index of the weights in TorchGeo's enums, as plain data.

`import torchgeo.models` takes about a second. The index is read from the enums once for each version of TorchGeo and
then kept in the cache folder of the user, so that `rsft backbones ls` does not import TorchGeo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from rsft.utils.atomic_files import write_text

_FORMAT = 1  # of the cache file

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
        channels: number of input channels; None if TorchGeo does not state it.
        size: side of the input in pixels; None if TorchGeo does not state it.
        normalizations: the steps of TorchGeo's transforms that normalize, in order.
    """

    name: str
    model: str
    url: str
    dataset: str | None
    method: str | None
    bands: tuple[str, ...]
    channels: int | None
    size: int | None
    normalizations: tuple[Normalization, ...]


@cache
def published_weights() -> dict[str, PublishedWeights]:
    """Return all weights that the installed TorchGeo publishes.

    Returns:
        Name -> weights, in the order of `torchgeo.models.list_models`.
    """
    path = user_cache_path("rsft") / "torchgeo" / f"weights-{_FORMAT}-{version('torchgeo')}.json"
    try:
        index = [_from_json(entry) for entry in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged by hand
        index = list(read_enums())
        _write_cache(path, index)
    return {weights.name: weights for weights in index}


def read_enums() -> Iterator[PublishedWeights]:
    """Import TorchGeo and read its enums of weights.

    Yields:
        The weights, in the order of `torchgeo.models.list_models`.
    """
    from torchgeo.models import get_model_weights, list_models

    for model in list_models():
        try:
            enum: Any = get_model_weights(model)
        except KeyError:  # a network without published weights
            continue
        for member in enum:
            meta = member.meta
            yield PublishedWeights(
                name=str(member),
                model=model,
                url=member.url,
                dataset=meta.get("dataset"),
                method=meta.get("ssl_method"),
                bands=tuple(meta.get("bands") or ()),
                channels=meta.get("in_chans"),
                size=meta.get("img_size"),
                normalizations=tuple(_normalizations(member.transforms)),
            )


def _normalizations(transforms: Any) -> Iterator[Normalization]:
    from torchvision.transforms.v2 import Normalize

    for step in transforms.modules():
        if isinstance(step, Normalize):
            yield tuple(map(float, step.mean)), tuple(map(float, step.std))


def _from_json(entry: dict[str, Any]) -> PublishedWeights:
    steps = tuple((tuple(mean), tuple(std)) for mean, std in entry["normalizations"])
    return PublishedWeights(**entry | {"bands": tuple(entry["bands"]), "normalizations": steps})


def _write_cache(path: Path, index: list[PublishedWeights]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps([asdict(weights) for weights in index]))
    except OSError:  # a read-only home: the enums are read again next time
        pass
