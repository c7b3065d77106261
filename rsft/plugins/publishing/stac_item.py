"""Write a bundle as a STAC item with the extension Machine Learning Model (MLM).

An item is one JSON object, so neither pystac nor stac-model is needed to write it; the
tests validate it with the published schemas. A bundle does not know where and when its
chips were taken: the geometry is null, and the time is that of the training.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH, KNEE, Stretch
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import FORMATS
from rsft.inference.engines.export_metadata import METADATA_FILE, read_export_metadata
from rsft.models.bundle.bundle import (
    CONFIDENCE_FILE,
    INDEX_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    spdx_license,
)
from rsft.models.inspection.describe import architecture_family
from rsft.plugins.publishing.source import (
    BundleSource,
    fill_bundle_template,
    read_source,
)
from rsft.utils.atomic_files import sha256, write_text

ITEM_FILE = "item.json"

HYPERPARAMETER_SECTIONS = ("peft", "meta", "semi", "head", "loss", "train")
"""Sections of the recipe that are hyperparameters. Others name files and folders of a
machine."""

_MACHINE_KEYS = ("train.start_bundle", "train.device")
_BINARY = "application/octet-stream"
_PYTORCH_FILE = "application/octet-stream; framework=pytorch"
_SAFETENSORS = "safetensors.torch.save_file"
_WEIGHTS_ROLES = ("mlm:model", "mlm:weights")
_TEXTS = {
    "": "application/yaml",  # MLmodel of MLflow
    ".json": "application/json",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}
"""Media types of files of exports that contain no weights, by suffix."""

_ARTIFACTS = {
    ".onnx": (f"{_BINARY}; framework=onnx", "onnx", "ONNX"),
    ".xml": ("application/xml", "openvino", "OpenVINO"),
    ".pt2": (_PYTORCH_FILE, "torch.export.save", "PyTorch"),
    ".safetensors": (_PYTORCH_FILE, _SAFETENSORS, "PyTorch"),
}
"""Media type, artifact type and framework by suffix of the main file of an export."""

_ENTRY_POINT = "rsft.data.imagery.contract:Contract.to_input"
_PER_CHIP = {
    **{"type": "processing", "format": "python", "expression": _ENTRY_POINT},
    "description": (
        "each chip is normalized by its own mean and standard deviation, over all"
        " planes"
    ),
}
# as STAC writes them
_UNITS = {
    "db": "dB",
    "gamma0_db": "dB",
    "sigma0": "1",
    "gamma0": "1",
    "beta0": "1",
}
_SHA256_MULTIHASH = "1220"  # code of SHA-256 and its length in bytes
_SEMANTIC_VERSION = re.compile(r"\d+\.\d+\.\d+(\+[0-9a-zA-Z.-]+)?")


def write_stac_item(
    bundle: Path, output: Path | None = None, *, overwrite: bool = False
) -> Path:
    """Write a STAC item for a bundle, and the exports beside it, as a model.

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
    if path.exists() and not overwrite:
        raise RequestError(
            "the file exists already",
            path,
            "give --overwrite to replace it, or another --out",
        )
    exports = {}
    for file in sorted((source.folder.parent / "exports").glob(f"*/{METADATA_FILE}")):
        with suppress(RequestError, WeightsError, OSError):
            metadata = read_export_metadata(file.parent)
            if metadata.get("bundle_sha256") == source.bundle.sha256:
                exports[file.parent] = metadata
    write_text(path, render_item(source, path.parent, exports))
    return path


def render_item(
    source: BundleSource, base: Path, exports: Mapping[Path, Mapping[str, Any]]
) -> str:
    """Fill the template of the item, item.json.jinja.

    Args:
        source: the bundle.
        base: the folder that links are relative to.
        exports: content of export.json by folder of the exports to list.

    Returns:
        JSON.

    Raises:
        WeightsError: a number in the bundle is not finite.
    """
    from rsft.models.inspection.verify import build_meta_classifier

    bundle = source.bundle
    contract = source.bundle.contract
    recipe = source.bundle.recipe
    time = datetime.now(UTC)
    meaning = "the time when this item was written"
    with suppress(ValueError, TypeError, KeyError):
        finished = datetime.fromisoformat(source.run["finished"])
        if finished.tzinfo is not None:
            time = finished.astimezone(UTC)
            meaning = "the end of the training"
    versions = source.run.get("versions")
    if isinstance(versions, dict):
        torch_version = versions.get("torch")
    else:
        torch_version = None
    sections = recipe.model_dump(mode="json")
    settings = {
        f"{name}.{key}": x
        for name in HYPERPARAMETER_SECTIONS
        for key, x in (sections[name] or {}).items()
    }
    unit, stretches = next(iter(contract.units.items()))
    parameters = None
    with suppress(RequestError):  # this version does not know the encoder
        parameters = sum(tensor.numel() for tensor in bundle.tensors.values())
        for parameter in build_meta_classifier(bundle).parameters():
            parameters += 0 if parameter.requires_grad else parameter.numel()
    text = fill_bundle_template(
        "item.json.jinja",
        source,
        time=time,
        time_meaning=meaning,
        contract=contract,
        mlm_name=model_name(recipe.name),
        architecture=architecture_family(recipe.backbone.name),
        optional={
            "license": spdx_license(bundle.licenses),
            "mlm:framework_version": (
                torch_version
                if _SEMANTIC_VERSION.fullmatch(str(torch_version))
                else None
            ),
            "mlm:total_parameters": parameters,
        },
        hyperparameters={"seed": recipe.seed}
        | {
            key: value
            for key, value in settings.items()
            if value is not None and key not in _MACHINE_KEYS
        },
        unit=unit,
        bands=list_stac_bands(contract),
        known_bands=BANDS,
        entry_point=_ENTRY_POINT,
        scalings=(
            [_PER_CHIP] * len(contract.planes)
            if contract.chip_standard
            else [
                describe_scaling(*plane)
                for plane in zip(stretches, contract.mean, contract.std, strict=True)
            ]
        ),
        assets=_list_assets(source, exports, base),
    )
    try:
        return json.dumps(json.loads(text), indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise WeightsError(
            "a number of the bundle is not finite", source.folder, "train again"
        ) from error


def list_stac_bands(contract: Contract) -> list[dict[str, Any]]:
    """Return bands and computed planes as band objects of STAC 1.1."""
    unit = next(iter(contract.units))
    pixels: dict[str, Any] = {"data_type": unit} if unit in DIGITAL_UNITS else {}
    pixels |= {"unit": _UNITS[unit]} if unit in _UNITS else {}
    bands = [
        {"name": band, "description": contract.digital or unit, **pixels}
        for band in contract.used_bands
    ]
    computed = dict.fromkeys(plane for plane in contract.planes if plane not in BANDS)
    return bands + [
        {"name": plane, "description": "computed from the bands"} for plane in computed
    ]


def describe_scaling(stretch: Stretch, mean: float, std: float) -> dict[str, Any]:
    """Return how the values of a plane become those of the network's input.

    Args:
        stretch: mapping of the values to bytes.
        mean: mean of the plane, 0-1.
        std: standard deviation of the plane, 0-1.

    Returns:
        A Value Scaling Object: a z-score of bytes, else a formula in which A is the
            plane, in the syntax of numpy.

    Example:
        >>> describe_scaling(Stretch(), mean=0.5, std=0.25)
        {'type': 'z-score', 'mean': 127.5, 'stddev': 63.75}
    """
    if stretch == IDENTITY_STRETCH:
        return {"type": "z-score", "mean": 255 * mean, "stddev": 255 * std}
    if stretch.high is None:
        return {
            "type": "processing",
            "format": "python",
            "expression": _ENTRY_POINT,
            "description": "the maximum of the chip becomes white",
        }
    black = stretch.low
    high = stretch.high
    values = f"clip(A, {stretch.low!r}, {stretch.white!r})"
    if stretch.curve != "linear":
        values = f"{stretch.curve}(clip(A, {max(black, 0.0)!r}, {stretch.white!r}))"
        black, high = getattr(np, stretch.curve)([max(black, 0.0), high])
    position = f"({values} - {float(black)!r}) / {float(high - black)!r}"
    levels = f"255 * {position}"
    if stretch.top is not None:
        levels = (
            f"{255 * KNEE!r} * (minimum({position}, 1) + {stretch.slope!r} *"
            f" log(maximum({position}, 1)))"
        )
    expression = f"(rint({levels}) / 255 - {mean!r}) / {std!r}"
    return {"type": "processing", "format": "gdal-calc", "expression": expression}


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


def _list_assets(
    source: BundleSource, exports: Mapping[Path, Mapping[str, Any]], base: Path
) -> dict[str, Any]:
    """Return the files of the bundle, its encoder's weights, and the exports."""
    backbone = source.bundle.recipe.backbone.name
    confidence = (
        "temperature, class means and validation chips, for the confidence of"
        " predictions"
    )
    files = {
        "weights": (
            WEIGHTS_FILE,
            f"learned tensors; {backbone} is needed as well",
            _PYTORCH_FILE,
            *_WEIGHTS_ROLES,
        ),
        "bundle": (
            INDEX_FILE,
            "classes, contract, hashes",
            "application/json",
            "metadata",
        ),
        "recipe": (RECIPE_FILE, "settings of the run", "application/yaml", "metadata"),
        "confidence": (CONFIDENCE_FILE, confidence, _PYTORCH_FILE, "data"),
    }
    assets = {
        key: _file_asset(source.folder / name, base, *fields)
        for key, (name, *fields) in files.items()
        if (source.folder / name).is_file()
    }
    # STAC allows bands of an item if an asset has some
    bands = [{"name": band["name"]} for band in list_stac_bands(source.bundle.contract)]
    assets["weights"] |= {"mlm:artifact_type": _SAFETENSORS, "bands": bands}
    if source.encoder.url:
        title = f"published weights of the frozen encoder {backbone}"
        assets["backbone"] = {
            "href": source.encoder.url,
            "title": title,
            "type": _BINARY,
            "roles": ["mlm:weights"],
        }
    for folder, metadata in exports.items():
        kind = str(metadata.get("kind"))
        precision = metadata.get("precision")
        main_file = FORMATS[kind].file_name if kind in FORMATS else None
        title = (
            f"export for {kind}, {precision}; export.json describes input and outputs"
        )
        paths = (
            path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."
        )
        for name in sorted(path.relative_to(folder).as_posix() for path in paths):
            if name == main_file:
                key = folder.name
            else:
                key = f"{folder.name}/{name}"
            if name == main_file and (artifact := _ARTIFACTS.get(Path(name).suffix)):
                asset = _file_asset(
                    folder / name, base, title, artifact[0], "mlm:model"
                )
                assets[key] = asset | {
                    "mlm:artifact_type": artifact[1],
                    "mlm:framework": artifact[2],
                }
            else:
                media_type = _TEXTS.get(Path(name).suffix, _BINARY)
                if media_type == _BINARY:
                    role = "mlm:weights"
                else:
                    role = "metadata"
                assets[key] = _file_asset(
                    folder / name, base, f"part of the {title}", media_type, role
                )
    return assets


def _file_asset(
    path: Path, base: Path, title: str, media_type: str, *roles: str
) -> dict[str, Any]:
    relative = Path(os.path.relpath(path, base)).as_posix()
    return {
        "href": quote(relative if relative.startswith("..") else f"./{relative}"),
        "title": title,
        "type": media_type,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": f"{_SHA256_MULTIHASH}{sha256(path)}",
    }
