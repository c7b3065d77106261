"""The index of a bundle, bundle.json: metadata of the tensors, and hashes of all files and of the index itself."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rsft.data.imagery.contract import Contract
from rsft.errors import WeightsError
from rsft.utils.atomic_files import sha256
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions
from rsft.utils.untrusted.documents import parse_json, read_regular


class SourceLicense(BaseModel):
    """The license of a backbone or a data set.

    Attributes:
        source: "backbone" or "data".
        name: name of the encoder or the data set; empty if unknown.
        license: SPDX identifier, or a statement.
        restrictions: what the license does not allow: names of `rsft.utils.licenses.RESTRICTIONS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["backbone", "data"]
    name: str
    license: str
    restrictions: tuple[str, ...]

    def __str__(self) -> str:
        return describe_license(self.license, self.restrictions)


def source_license(source: Literal["backbone", "data"], name: str, text: str) -> SourceLicense:
    """Return a license with its restrictions.

    Args:
        source: "backbone" or "data".
        name: name of the encoder or the data set.
        text: SPDX identifier of the license, or a statement.
    """
    return SourceLicense(source=source, name=name, license=text, restrictions=license_restrictions(text))


def restriction_sentence(licenses: Iterable[SourceLicense]) -> str | None:
    """Return one sentence about the uses that licenses of bundles do not allow; None if no license names one."""
    stated = {entry: [name for name in entry.restrictions if name != UNKNOWN] for entry in licenses}
    parts = [f"{', '.join(names)} ({_describe_source(entry)})" for entry, names in stated.items() if names]
    return f"licenses restrict the use of this bundle: {'; '.join(parts)}" if parts else None


def unknown_sentence(licenses: Iterable[SourceLicense]) -> str | None:
    """Return one sentence about sources whose license or its terms are unknown; None if all are known."""
    unknown = dict.fromkeys(_describe_source(entry) for entry in licenses if UNKNOWN in entry.restrictions)
    return f"the license or its terms are unknown: {', '.join(unknown)}" if unknown else None


def _describe_source(entry: SourceLicense) -> str:
    return f"{entry.source} {entry.name}".strip()


BUNDLE_FORMAT = 3
"""Version of the layout. Others are rejected."""

MAX_INPUT_SIDE, MAX_CROP_SIDE, MAX_PLANES, MAX_PLANE_LENGTH = 4096, 8192, 256, 500
"""Limits of a contract in a bundle: pixels, pixels, planes, and letters of the expression of a plane."""

INDEX_FILE, WEIGHTS_FILE, RECIPE_FILE = "bundle.json", "weights.safetensors", "recipe.yaml"
CONFIDENCE_FILE = "confidence.safetensors"

COPY_HINT = "copy the whole bundle again; `rsft bundle verify` lists all faults"
DIGEST_KEY = "sha256"  # key of the index for the hash of the index


class BackboneId(BaseModel):
    """Name and hash of the frozen weights that a bundle needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class BundleIndex(BaseModel):
    """The keys of bundle.json.

    Attributes:
        format: version of the layout.
        rsft_version: version that wrote the bundle.
        name: the name of the recipe.
        backbone: name and hash of the frozen weights.
        classes: names in the order of the logits.
        groups: class names of head, medium and tail.
        train_counts: number of training chips of each class.
        contract: what a chip must be, and how it becomes the network's input.
        metrics: accuracy on the validation chips after training.
        licenses: licenses of the backbone and the data.
        files: SHA-256 of every other file of the bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    rsft_version: str
    name: str
    backbone: BackboneId
    classes: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    train_counts: tuple[int, ...]
    contract: Contract
    metrics: dict[str, Any]
    licenses: tuple[SourceLicense, ...]
    files: dict[str, str]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or len(self.train_counts) != len(self.classes):
            raise ValueError("each class needs one name and one count")
        if not {name for names in self.groups.values() for name in names} <= set(self.classes):
            raise ValueError("a group names an unknown class")
        if not {WEIGHTS_FILE, RECIPE_FILE} <= set(self.files) <= {WEIGHTS_FILE, RECIPE_FILE, CONFIDENCE_FILE}:
            raise ValueError(f"the files of a bundle are {WEIGHTS_FILE}, {RECIPE_FILE} and {CONFIDENCE_FILE}")
        _check_contract(self.contract)
        return self


def _check_contract(contract: Contract) -> None:
    """Check the numbers of a contract before any memory is allocated for them.

    Raises:
        ValueError: a size is not within its limits, a list has not one entry per plane, or there is no unit.
    """
    if not contract.units:
        raise ValueError("contract.units is empty; it must have at least one unit")
    if not 1 <= contract.size <= MAX_INPUT_SIDE:
        raise ValueError(f"contract.size is {contract.size:,}; it must be from 1 to {MAX_INPUT_SIDE:,}")
    if contract.crop is not None and not 1 <= contract.crop <= MAX_CROP_SIDE:
        raise ValueError(f"contract.crop is {contract.crop:,}; it must be from 1 to {MAX_CROP_SIDE:,}")
    count = len(contract.planes)
    if not 1 <= count <= MAX_PLANES or any(len(plane) > MAX_PLANE_LENGTH for plane in contract.planes):
        raise ValueError(f"contract.planes must be 1 to {MAX_PLANES} expressions of up to {MAX_PLANE_LENGTH} letters")
    lists = {"mean": contract.mean, "std": contract.std} | {f"units.{x}": y for x, y in contract.units.items()}
    for name, values in lists.items():
        if len(values) != count:
            raise ValueError(f"contract.{name} has {len(values)} entries for {count} planes")
    if not all(0 < value < math.inf for value in contract.std) or not all(map(math.isfinite, contract.mean)):
        raise ValueError("contract.mean and contract.std must be finite numbers, and those of std more than 0")


def index_digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content of bundle.json: all keys except `sha256`, sorted, as JSON without spaces."""
    hashed = {key: value for key, value in content.items() if key != DIGEST_KEY}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_index(folder: Path) -> tuple[BundleIndex, str]:
    """Read the index of a bundle.

    Args:
        folder: the folder of the bundle.

    Returns:
        The index, and its hash.

    Raises:
        WeightsError: the index is damaged, edited, or has an unknown format.
    """
    try:
        content = parse_json(read_regular(folder / INDEX_FILE))
        version, rsft_version = content["format"], content["rsft_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{INDEX_FILE} is damaged", folder, COPY_HINT) from error
    if version != BUNDLE_FORMAT:
        message = f"bundle format {version}; this version of rsft reads format {BUNDLE_FORMAT}"
        raise WeightsError(message, folder, f"use rsft {rsft_version}")
    if content.get(DIGEST_KEY) != index_digest(content):
        raise WeightsError(f"{INDEX_FILE} was edited: its content does not match the hash in it", folder, COPY_HINT)
    try:
        index = BundleIndex.model_validate({key: value for key, value in content.items() if key != DIGEST_KEY})
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        key = ".".join(map(str, details["loc"])) or "its keys"
        raise WeightsError(f"{INDEX_FILE} is damaged: {key}: {details['msg']}", folder, COPY_HINT) from error
    return index, content[DIGEST_KEY]


def find_altered_files(folder: Path, index: BundleIndex) -> list[str]:
    """Compare the files of a bundle with its index; hidden files are ignored.

    Args:
        folder: the folder of the bundle.
        index: the index, from `read_index`.

    Returns:
        One sentence for each file that is missing, changed, or not part of the bundle.
    """
    faults = [
        f"{name} is missing or altered"
        for name, digest in index.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    expected = {INDEX_FILE, *index.files}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in expected and path.name[0] != ".")
    return faults + [f"{name} does not belong to the bundle" for name in foreign]
