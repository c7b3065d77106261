"""What stands beside an export, and in it as far as the format has room: what it is of, and what it is worth."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rsft import __version__
from rsft.errors import RequestError, WeightsError
from rsft.inference.export.traceable import FEATURES, IMAGES, LOGITS
from rsft.models.bundle.bundle import Bundle
from rsft.utils.atomic_files import sha256, write_text

ABOUT = "export.json"
FORMAT = 1
"""Version of export.json; another one is refused."""

_PACKAGES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


def describe(bundle: Bundle, kind: str, precision: str) -> dict[str, Any]:
    """Bundle, classes and contract, and what goes in and comes out."""
    contract, evaluate = bundle.contract, bundle.recipe.evaluate
    planes, size = len(contract.planes), contract.size
    return {
        "format": FORMAT,
        "rsft_version": __version__,
        "kind": kind,
        "precision": precision,
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "backbone": {"name": bundle.recipe.backbone.name, "sha256": bundle.backbone_sha256},
        "runs": len(bundle.members),
        "classes": list(bundle.classes),
        "groups": {name: list(members) for name, members in bundle.groups.items()},
        "contract": contract.model_dump(),
        "input": {"name": IMAGES, "shape": ["N", planes, size, size], "dtype": "float32"},
        "outputs": {LOGITS: ["N", len(bundle.classes)], FEATURES: ["N", "D"]},
        "tta": evaluate.tta if evaluate.tta == "none" else f"{evaluate.tta}, not in the file: it sees one crop",
        "versions": versions(_PACKAGES),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write export.json, with the hashes of the files that lie there."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_text(folder / ABOUT, json.dumps(about | {"files": files}, indent=1))


def read_about(folder: Path) -> dict[str, Any]:
    """What `write_about` wrote, its files as they were.

    Raises:
        RequestError: this is no export.
        WeightsError: it is of another version, or altered.
    """
    if not (folder / ABOUT).is_file():
        raise RequestError("there is no export", folder, "make one with `rsft export`, and keep export.json beside it")
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
        files, form = dict(about["files"]), about["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{ABOUT} is damaged", folder, "export again") from error
    if form != FORMAT:
        raise WeightsError(f"export format {form}; this rsft reads {FORMAT}", folder, "export again")
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise WeightsError(f"{name} is missing or altered", folder, "export again")
    return about
