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
from rsft.plugins.publishing.source import (
    BundleSource,
    fill_bundle_template,
    read_source,
)
from rsft.types import JsonObject
from rsft.utils.atomic_files import check_is_free, sha256, write_text

ITEM_FILE = "item.json"

_HYPERPARAMETER = re.compile(
    r"seed$|(peft|meta|semi|head|loss|train)\.(?!(start_bundle|device)$)"
)
"""Keys of a recipe that are hyperparameters; others name files and folders of a
machine."""

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
    "type": "processing",
    "format": "python",
    "expression": _ENTRY_POINT,
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

_FAMILIES = {
    "swin": "Swin Transformer",
    "convnext": "ConvNeXt",
    "resnet": "ResNet",
    "vit|eva02|cait|scalemae": "Vision Transformer",
}
"""Name of the architecture in the literature, by a pattern of the encoder's name; the
first match counts."""


def architecture_family(encoder: str) -> str:
    """Return the name of an encoder's architecture in the literature, or its own.

    Example:
        >>> architecture_family("vit_tiny_patch8_64.simship")
        'Vision Transformer'
    """
    return next(
        (
            family
            for pattern, family in _FAMILIES.items()
            if re.search(pattern, encoder.lower())
        ),
        encoder,
    )


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
    check_is_free(path, overwrite)
    exports = {}
    for file in sorted((source.folder.parent / "exports").glob(f"*/{METADATA_FILE}")):
        with suppress(RequestError, WeightsError, OSError):
            metadata = read_export_metadata(file.parent)
            if metadata.get("bundle_sha256") == source.bundle.sha256:
                exports[file.parent] = metadata
    write_text(path, render_item(source, path.parent, exports))
    return path


def render_item(
    source: BundleSource, base: Path, exports: Mapping[Path, JsonObject]
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
    contract = bundle.contract
    recipe = bundle.recipe
    time = datetime.now(UTC)
    meaning = "the time when this item was written"
    with suppress(ValueError, TypeError, KeyError):
        finished = datetime.fromisoformat(source.run["finished"])
        if finished.tzinfo is not None:
            time = finished.astimezone(UTC)
            meaning = "the end of the training"
    torch_version = None
    with suppress(KeyError, TypeError):
        match = _SEMANTIC_VERSION.fullmatch(str(source.run["versions"]["torch"]))
        torch_version = match and match[0]
    hyperparameters = {
        key: value
        for key, value in recipe.flatten().items()
        if _HYPERPARAMETER.match(key) and value is not None
    }
    unit, stretches = next(iter(contract.units.items()))
    scalings = [_PER_CHIP] * len(contract.planes)
    if not contract.chip_standard:
        scalings = list(map(describe_scaling, stretches, contract.mean, contract.std))
    parameters = None
    with suppress(RequestError):  # this version does not know the encoder
        classifier = build_meta_classifier(bundle)
        frozen = [x for x in classifier.parameters() if not x.requires_grad]
        parameters = sum(x.numel() for x in (*bundle.tensors.values(), *frozen))
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
            "mlm:framework_version": torch_version,
            "mlm:total_parameters": parameters,
        },
        hyperparameters=hyperparameters,
        unit=unit,
        bands=list_stac_bands(contract),
        known_bands=BANDS,
        entry_point=_ENTRY_POINT,
        scalings=scalings,
        assets=_list_assets(source, exports, base),
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
    pixels = {"description": contract.digital or unit}
    if unit in DIGITAL_UNITS:
        pixels["data_type"] = unit
    if unit in _UNITS:
        pixels["unit"] = _UNITS[unit]
    bands = [{"name": band, **pixels} for band in contract.used_bands]
    for plane in dict.fromkeys(contract.planes):
        if plane not in BANDS:
            bands.append({"name": plane, "description": "computed from the bands"})
    return bands


def describe_scaling(stretch: Stretch, mean: float, std: float) -> JsonObject:
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
        return _PER_CHIP | {"description": "the maximum of the chip becomes white"}
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
    value = f"rint({levels}) / 255"
    if stretch.restored:
        value = f"({float(black)!r} + {float(high - black)!r} * {value})"
        inverse = {"linear": "", "log": "exp", "log1p": "expm1"}[stretch.curve]
        value = f"{inverse}{value}"
    expression = f"({value} - {mean!r}) / {std!r}"
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
    source: BundleSource, exports: Mapping[Path, JsonObject], base: Path
) -> JsonObject:
    """Return the files of the bundle, its encoder's weights, and the exports."""
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
    for folder, metadata in exports.items():
        assets |= _list_export_assets(folder, metadata, base)
    return assets


def _list_export_assets(folder: Path, metadata: JsonObject, base: Path) -> JsonObject:
    """Return the files of an export; the main file has the name of its folder."""
    kind = str(metadata.get("kind"))
    main_file = FORMATS[kind].file_name if kind in FORMATS else None
    precision = metadata.get("precision")
    title = f"export for {kind}, {precision}; export.json describes input and outputs"
    assets = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        name = path.relative_to(folder).as_posix()
        key = folder.name if name == main_file else f"{folder.name}/{name}"
        if name == main_file and path.suffix in _ARTIFACTS:
            media_type, artifact_type, framework = _ARTIFACTS[path.suffix]
            assets[key] = {
                **_file_asset(path, base, title, media_type, "mlm:model"),
                "mlm:artifact_type": artifact_type,
                "mlm:framework": framework,
            }
            continue
        media_type = _TEXTS.get(path.suffix, _BINARY)
        role = "mlm:weights" if media_type == _BINARY else "metadata"
        assets[key] = _file_asset(path, base, f"part of the {title}", media_type, role)
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
