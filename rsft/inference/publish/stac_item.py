"""Write a bundle as a STAC item with the extension Machine Learning Model (MLM).

An item is one JSON object, so neither pystac nor stac-model is needed to write it; the tests validate it with the
published schemas. A bundle does not know where and when its chips were taken: the geometry is null, and the time is
that of the training.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import FORMATS
from rsft.inference.publish.licenses import spdx_license
from rsft.inference.publish.mlm_fields import (
    TASKS,
    describe_hyperparameters,
    describe_input,
    describe_output,
    list_stac_bands,
    model_name,
)
from rsft.inference.publish.source import BundleSource, find_exports, read_source
from rsft.models.bundle.manifest import CONFIDENCE_FILE, INDEX_FILE, RECIPE_FILE, WEIGHTS_FILE
from rsft.models.inspection.describe import architecture_family
from rsft.utils.atomic_files import sha256, write_text

ITEM_FILE = "item.json"
STAC_VERSION = "1.1.0"
MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
FILE_SCHEMA = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

_SAFETENSORS = "safetensors.torch.save_file"
_BINARY = "application/octet-stream"
_ARTIFACTS = {
    ".onnx": (f"{_BINARY}; framework=onnx", "onnx", "ONNX"),
    ".xml": ("application/xml", "openvino", "OpenVINO"),
    ".pt2": (f"{_BINARY}; framework=pytorch", "torch.export.save", "PyTorch"),
    ".safetensors": (f"{_BINARY}; framework=pytorch", _SAFETENSORS, "PyTorch"),
}
"""Media type, artifact type and framework by suffix of the main file of an export."""

_SHA256_MULTIHASH = "1220"  # code of SHA-256 and its length in bytes
_SEMANTIC_VERSION = re.compile(r"\d+\.\d+\.\d+(\+[0-9a-zA-Z.-]+)?")


def write_stac_item(bundle: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write a STAC item that describes a bundle, and the exports beside it, as a machine learning model.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run.
        output: file to write (default: item.json beside the folder of the bundle). Links in it are relative to it.
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
        raise RequestError("the file exists already", path, "give --overwrite to replace it, or another --out")
    write_text(path, render_item(source, path.parent, find_exports(source)))
    return path


def render_item(source: BundleSource, base: Path, exports: Mapping[Path, Mapping[str, Any]]) -> str:
    """Return a STAC item as text.

    Args:
        source: the bundle.
        base: the folder that links are relative to.
        exports: content of export.json by folder of the exports to list.

    Returns:
        JSON.

    Raises:
        WeightsError: a number in the bundle is not finite.
    """
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [MLM_SCHEMA, FILE_SCHEMA],
        "id": f"{model_name(source.bundle.recipe.name).replace(' ', '-')}-{source.bundle.sha256[:12]}",
        "geometry": None,
        "properties": _properties(source),
        "links": [],
        "assets": _bundle_assets(source, base) | _export_assets(exports, base),
    }
    try:
        return json.dumps(item, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise WeightsError("a number of the bundle is not finite", source.folder, "train again") from error


def _properties(source: BundleSource) -> dict[str, Any]:
    bundle, encoder = source.bundle, source.encoder
    origin = f"{bundle.recipe.backbone.name}: {encoder.about}" if encoder.about else bundle.recipe.backbone.name
    time, meaning = _creation_time(source)
    license_name, parameters = spdx_license(bundle.licenses), source.total_parameters
    return {
        "title": bundle.recipe.name,
        "description": f"A classifier of {len(bundle.classes)} classes: the frozen encoder "
        f"{bundle.recipe.backbone.name} with {bundle.recipe.peft.method}, fine-tuned by rsft {bundle.rsft_version}. "
        f"Place and time of its training chips are unknown: the geometry is null, and datetime is {meaning}.",
        "datetime": time,
        **({"license": license_name} if license_name else {}),
        "bands": list_stac_bands(bundle.contract),
        "mlm:name": model_name(bundle.recipe.name),
        "mlm:architecture": architecture_family(bundle.recipe.backbone.name),
        "mlm:tasks": list(TASKS),
        "mlm:framework": "PyTorch",
        **_framework_version(source),
        **({} if parameters is None else {"mlm:total_parameters": parameters}),
        "mlm:pretrained": True,
        "mlm:pretrained_source": origin,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [describe_input(bundle.contract)],
        "mlm:output": [describe_output(bundle)],
        "mlm:hyperparameters": describe_hyperparameters(bundle),
        "rsft:version": bundle.rsft_version,
        "rsft:bundle_sha256": bundle.sha256,
        "rsft:backbone": {"name": bundle.recipe.backbone.name, "sha256": bundle.backbone_sha256},
        "rsft:licenses": [entry.model_dump(mode="json") for entry in bundle.licenses],
        "rsft:accuracy": _accuracies(source),
    }


def _creation_time(source: BundleSource) -> tuple[str, str]:
    """Return the time of an item, and what it means."""
    with suppress(ValueError, TypeError):
        finished = datetime.fromisoformat(source.run["finished"]) if "finished" in source.run else None
        if finished is not None and finished.tzinfo is not None:
            return _utc_text(finished), "the end of the training"
    return _utc_text(datetime.now(UTC)), "the time when this item was written"


def _utc_text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _framework_version(source: BundleSource) -> dict[str, str]:
    versions = source.run.get("versions")
    version = versions.get("torch") if isinstance(versions, dict) else None
    if not isinstance(version, str) or not _SEMANTIC_VERSION.fullmatch(version):
        return {}
    return {"mlm:framework_version": version}


def _accuracies(source: BundleSource) -> list[dict[str, Any]]:
    return [
        {
            "data": measurement.data,
            "split": measurement.split,
            "chips": measurement.chips,
            **{measure: interval.to_dict() for measure, interval in measurement.accuracies.items()},
        }
        for measurement in source.measurements
    ]


def _bundle_assets(source: BundleSource, base: Path) -> dict[str, Any]:
    folder, backbone = source.folder, source.bundle.recipe.backbone.name
    media_type, artifact, _ = _ARTIFACTS[".safetensors"]
    bands = [{"name": band["name"]} for band in list_stac_bands(source.bundle.contract)]
    assets = {
        "weights": _file_asset(
            folder / WEIGHTS_FILE,
            base,
            f"learned tensors; {backbone} is needed as well",
            media_type,
            "mlm:model",
            "mlm:weights",
        )
        | {"mlm:artifact_type": artifact, "bands": bands},  # STAC allows bands of an item if an asset has some
        "bundle": _file_asset(folder / INDEX_FILE, base, "classes, contract, hashes", "application/json", "metadata"),
        "recipe": _file_asset(folder / RECIPE_FILE, base, "settings of the run", "application/yaml", "metadata"),
    }
    if (folder / CONFIDENCE_FILE).is_file():
        title = "temperature, class means and validation chips, for the confidence of predictions"
        assets["confidence"] = _file_asset(folder / CONFIDENCE_FILE, base, title, media_type, "data")
    if source.encoder.url:
        assets["backbone"] = {
            "href": source.encoder.url,
            "title": f"published weights of the frozen encoder {backbone}",
            "type": _BINARY,
            "roles": ["mlm:weights"],
        }
    return assets


def _export_assets(exports: Mapping[Path, Mapping[str, Any]], base: Path) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    for folder, metadata in exports.items():
        kind, precision = str(metadata.get("kind")), metadata.get("precision")
        main_file = FORMATS[kind].file_name if kind in FORMATS else None
        title = f"export for {kind}, {precision}; export.json describes input and outputs"
        for name in sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."):
            key = folder.name if name == main_file else f"{folder.name}/{name}"
            if name == main_file and (artifact := _ARTIFACTS.get(Path(name).suffix)):
                asset = _file_asset(folder / name, base, title, artifact[0], "mlm:model")
                assets[key] = asset | {"mlm:artifact_type": artifact[1], "mlm:framework": artifact[2]}
            else:
                media_type = "application/json" if name.endswith(".json") else _BINARY
                role = "metadata" if name.endswith(".json") else "mlm:weights"
                assets[key] = _file_asset(folder / name, base, f"part of the {title}", media_type, role)
    return assets


def _file_asset(path: Path, base: Path, title: str, media_type: str, *roles: str) -> dict[str, Any]:
    relative = Path(os.path.relpath(path, base)).as_posix()
    return {
        "href": quote(relative if relative.startswith("..") else f"./{relative}"),
        "title": title,
        "type": media_type,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": f"{_SHA256_MULTIHASH}{sha256(path)}",
    }
