"""Write and read export.json, the metadata of an export.

Some formats also store it inside their files.
"""

from pathlib import Path

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import (
    FEATURES,
    IMAGES,
    LOGITS,
    ExportFormat,
    installed_versions,
)
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.types import JsonObject
from rsft.utils.atomic_files import sha256, write_json
from rsft.utils.untrusted.documents import load_json
from rsft.version import __version__

METADATA_FILE = "export.json"
METADATA_FORMAT = 1
"""Version of export.json. Other versions are rejected."""


def export_folder(bundle_dir: Path, name: str) -> Path:
    """Return the folder beside a bundle for an export, such as "onnx-fp32"."""
    return find_bundle(bundle_dir).parent / "exports" / name


def export_metadata(
    bundle: Bundle, export_format: ExportFormat, precision: str
) -> JsonObject:
    """Return export.json before the check, without "checked" and "files"."""
    contract = bundle.contract
    evaluate = bundle.recipe.evaluate
    planes = len(contract.planes)
    size = contract.size
    packages = (
        "torch",
        "timm",
        *export_format.packages,
        *export_format.export_packages,
    )
    return {
        "format": METADATA_FORMAT,
        "rsft_version": __version__,
        "kind": export_format.name,
        "precision": precision,
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "backbone": {
            "name": bundle.recipe.backbone.name,
            "sha256": bundle.backbone_sha256,
        },
        "licenses": [entry.model_dump(mode="json") for entry in bundle.licenses],
        "runs": len(bundle.members),
        "classes": list(bundle.classes),
        "groups": {name: list(members) for name, members in bundle.groups.items()},
        "contract": contract.model_dump(),
        "input": {
            "name": IMAGES,
            "shape": ["N", planes, size, size],
            "dtype": "float32",
        },
        "outputs": {LOGITS: ["N", len(bundle.classes)], FEATURES: ["N", "D"]},
        "tta": (
            evaluate.tta
            if evaluate.tta == "none"
            else f"{evaluate.tta}, not in the file: it sees one view"
        ),
        "versions": installed_versions(packages),
        "head": bundle.recipe.head.model_dump(),
    }


def write_export_metadata(folder: Path, metadata: JsonObject) -> None:
    """Write export.json: `metadata`, and the hashes of the folder's other files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    write_json(folder / METADATA_FILE, metadata | {"files": files})


def read_export_metadata(folder: Path) -> JsonObject:
    """Read export.json, and check that the files beside it are unchanged.

    Raises:
        RequestError: the folder is not an export.
        WeightsError: the export has another format version, or one of its files is
            missing or altered.
    """
    if not (folder / METADATA_FILE).is_file():
        raise RequestError(
            f"the folder is not an export: {METADATA_FILE} is missing",
            folder,
            "make one with `rsft export`, and keep export.json beside its files",
        )
    try:
        metadata: JsonObject = load_json(folder / METADATA_FILE)
        files: JsonObject = metadata["files"]
        if not isinstance(files, dict):
            raise TypeError(f"files is a {type(files).__name__}")
        format_version = metadata["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{METADATA_FILE} is damaged", folder, "export again"
        ) from error
    if format_version != METADATA_FORMAT:
        raise WeightsError(
            f"export format {format_version}; this rsft reads {METADATA_FORMAT}",
            folder,
            "export again",
        )
    for name, digest in files.items():
        try:
            is_unchanged = sha256(folder / name) == digest
        except (OSError, ValueError):  # missing, a folder, or not a possible name
            is_unchanged = False
        if not is_unchanged:
            raise WeightsError(f"{name} is missing or altered", folder, "export again")
    return metadata
