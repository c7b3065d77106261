"""Write a bundle as a STAC item with the extension Machine Learning Model (MLM).

An item is one JSON object, so neither pystac nor stac-model is needed to write it; the
tests validate it with the published schemas. A bundle does not know where and when its
chips were taken: the geometry is null, and the time is that of the training.
"""

import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.models.bundle.bundle import (
    CONFIDENCE_FILE,
    INDEX_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    spdx_license,
)
from rsft.plugins.publishing.source import (
    BundleSource,
    fill_bundle_template,
    read_source,
)
from rsft.types import JsonObject
from rsft.utils.atomic_files import check_is_free, sha256, write_text

ITEM_FILE = "item.json"

_BINARY = "application/octet-stream"
_PYTORCH_FILE = "application/octet-stream; framework=pytorch"
_SAFETENSORS = "safetensors.torch.save_file"
_BUNDLE_FILES = {
    "weights": (
        WEIGHTS_FILE,
        "learned tensors; the encoder is needed as well",
        _PYTORCH_FILE,
        "mlm:model",
        "mlm:weights",
    ),
    "bundle": (
        INDEX_FILE,
        "classes, contract, hashes",
        "application/json",
        "metadata",
    ),
    "recipe": (RECIPE_FILE, "settings of the run", "application/yaml", "metadata"),
    "confidence": (
        CONFIDENCE_FILE,
        "temperature, features of training chips and validation chips, for the"
        " confidence of predictions",
        _PYTORCH_FILE,
        "data",
    ),
}
"""File, title, media type and roles of each asset of a bundle."""
_SHA256_MULTIHASH = "1220"  # code of SHA-256 and its length in bytes


def write_stac_item(
    bundle: Path, output: Path | None = None, *, overwrite: bool = False
) -> Path:
    """Write a STAC item for a bundle as a model.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run.
        output: file to write (default: item.json beside the folder of the bundle).
            Links in it are relative to it.
        overwrite: replace an existing file.

    Returns:
        The path of the item.

    Raises:
        RequestError: the path holds no bundle, or the file exists.
        WeightsError: the bundle is damaged or changed.
        DataError: the evaluation beside the bundle is damaged.

    Example:
        >>> path = write_stac_item(Path("runs/ships"))
        >>> path.as_posix()
        'runs/ships/001/item.json'
        >>> json.loads(path.read_text())["properties"]["mlm:tasks"]
        ['classification', 'scene-classification']
    """
    source = read_source(bundle)
    path = output or source.folder.parent / ITEM_FILE
    check_is_free(path, overwrite)
    write_text(path, render_item(source, path.parent))
    return path


def render_item(source: BundleSource, base: Path) -> str:
    """Fill the template of the item, item.json.jinja.

    Args:
        source: the bundle.
        base: the folder that links are relative to.

    Returns:
        JSON.

    Raises:
        WeightsError: a number in the bundle is not finite.
    """
    bundle = source.bundle
    time = datetime.now(UTC)
    meaning = "the time when this item was written"
    with suppress(ValueError, TypeError, KeyError):
        finished = datetime.fromisoformat(source.run["finished"])
        if finished.tzinfo is not None:
            time = finished.astimezone(UTC)
            meaning = "the end of the training"
    text = fill_bundle_template(
        "item.json.jinja",
        source,
        time=time,
        time_meaning=meaning,
        contract=bundle.contract,
        mlm_name=model_name(bundle.recipe.name),
        license=spdx_license(bundle.licenses),
        bands=list_stac_bands(bundle.contract),
        known_bands=BANDS,
        assets=_list_assets(source, base),
    )
    try:
        return json.dumps(json.loads(text), indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise WeightsError(
            "a number of the bundle is not finite", source.folder, "train again"
        ) from error


def list_stac_bands(contract: Contract) -> list[JsonObject]:
    """Return bands and computed planes as band objects of STAC 1.1."""
    unit = next(iter(contract.units))
    description = contract.digital or unit
    bands = [{"name": x, "description": description} for x in contract.used_bands]
    for plane in dict.fromkeys(contract.planes):
        if plane not in BANDS:
            bands.append({"name": plane, "description": "computed from the bands"})
    return bands


def model_name(name: str) -> str:
    """Return a name as MLM allows it.

    It has letters, digits, dots, hyphens and spaces; a letter is first.

    Example:
        >>> model_name("7 ships (new)")
        'model-7 ships -new'
    """
    plain = re.sub(r"[^a-zA-Z0-9_.\- ]", "-", name).strip("_.- ")
    if re.match(r"[a-zA-Z]..", plain):
        return plain
    return f"model-{plain}".rstrip("-")


def _list_assets(source: BundleSource, base: Path) -> JsonObject:
    """Return the files of the bundle, and its encoder's weights."""
    backbone = source.bundle.recipe.backbone.name
    assets = {}
    for key, (name, title, kind, *roles) in _BUNDLE_FILES.items():
        if (source.folder / name).is_file():
            assets[key] = _file_asset(source.folder / name, base, title, kind, *roles)
    # STAC allows bands of an item if an asset has some
    bands = [{"name": band["name"]} for band in list_stac_bands(source.bundle.contract)]
    assets["weights"] |= {"mlm:artifact_type": _SAFETENSORS, "bands": bands}
    if source.encoder.url:
        assets["backbone"] = {
            "href": source.encoder.url,
            "title": f"published weights of the frozen encoder {backbone}",
            "type": _BINARY,
            "roles": ["mlm:weights"],
        }
    return assets


def _file_asset(
    path: Path, base: Path, title: str, media_type: str, *roles: str
) -> JsonObject:
    relative = Path(os.path.relpath(path, base)).as_posix()
    return {
        "href": quote(relative if relative.startswith("..") else f"./{relative}"),
        "title": title,
        "type": media_type,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": f"{_SHA256_MULTIHASH}{sha256(path)}",
    }
