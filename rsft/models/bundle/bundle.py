"""Save a bundle atomically, and load it only if no file was changed.

Its index, bundle.json, has metadata of the tensors, and the hashes of all files and of
the index itself. Tensors are read when they are first used. A graph engine needs
neither them nor PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import UserDict
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rsft.data.imagery.bands import check_planes
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import UNIT_DTYPES
from rsft.errors import RequestError, WeightsError
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe
from rsft.types import JsonObject, Names
from rsft.utils.atomic_files import (
    atomic_folder,
    sha256,
    write_bytes,
    write_json,
    write_text,
)
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions
from rsft.utils.untrusted.documents import load_json
from rsft.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.peft.modules.adapter_module import NamedTensors


_SHARED_IDENTIFIERS = re.compile(
    r"(?i:mit|apache-2\.0|bsd-[23]-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-4\.0)"
)
"""Licenses that SPDX and the Hub know by the same identifier, apart from capitals."""


class SourceLicense(BaseModel):
    """The license of a backbone or a data set.

    Attributes:
        name: name of the encoder or the data set; empty if unknown.
        license: SPDX identifier, or a statement.
        restrictions: what the license does not allow: names of
            `rsft.utils.licenses.RESTRICTIONS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["backbone", "data"]
    name: str
    license: str
    restrictions: Names

    def __str__(self) -> str:
        return describe_license(self.license, self.restrictions)


def source_license(
    source: Literal["backbone", "data"], name: str, text: str
) -> SourceLicense:
    """Return the license of an encoder or a data set with its restrictions.

    It is an SPDX identifier or a statement.
    """
    return SourceLicense(
        source=source, name=name, license=text, restrictions=license_restrictions(text)
    )


def spdx_license(licenses: Sequence[SourceLicense]) -> str | None:
    """Return the license of a bundle for STAC.

    Returns:
        The SPDX identifier, if backbone and data have the same; "other" if they differ
        or have another license; None if one of them is unknown.
    """
    if not licenses or any(UNKNOWN in entry.restrictions for entry in licenses):
        return None
    first, *others = {entry.license for entry in licenses}
    if not others and _SHARED_IDENTIFIERS.fullmatch(first):
        return first
    return "other"


def describe_restrictions(licenses: Iterable[SourceLicense]) -> str:
    """Return a sentence on uses that licenses forbid, or ""."""
    texts = []
    for entry in licenses:
        stated = [x for x in entry.restrictions if x != UNKNOWN]
        if stated:
            name = f"{entry.source} {entry.name}".strip()
            texts.append(f"{', '.join(stated)} ({name})")
    if not texts:
        return ""
    return f"licenses restrict the use of this bundle: {'; '.join(texts)}"


BUNDLE_FORMAT = 3
"""Version of the layout. Others are rejected."""

INDEX_FILE = "bundle.json"

SIGNATURE_FILES = (".signature.json", ".signed.json")
"""Hidden files that lie in a signed bundle: the signature, and what it states.

Readers ignore them, and copies of a bundle keep them.
"""

WEIGHTS_FILE = "weights.safetensors"
RECIPE_FILE = "recipe.yaml"
CONFIDENCE_FILE = "confidence.safetensors"

COPY_HINT = "copy the whole bundle again; `rsft bundle verify` lists all faults"
# fields of `Bundle` in the index
_INDEXED = (
    "classes",
    "groups",
    "train_counts",
    "contract",
    "metrics",
    "licenses",
    "packages",
)


class BackboneId(BaseModel):
    """Name and hash of the frozen weights that a bundle needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class BundleIndex(BaseModel):
    """The keys of bundle.json; `Bundle` explains most of them.

    Attributes:
        format: version of the layout.
        name: the name of the recipe.
        files: SHA-256 of every other file of the bundle.
        sha256: hash of the bundle, see `index_digest`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    rsft_version: str
    name: str
    backbone: BackboneId
    classes: Names
    groups: dict[str, Names]
    train_counts: tuple[int, ...]
    contract: Contract
    metrics: JsonObject
    licenses: tuple[SourceLicense, ...]
    packages: dict[str, str] = {}
    files: dict[str, str]
    sha256: str

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        count = len(set(self.classes))
        if not count == len(self.classes) == len(self.train_counts):
            raise ValueError("each class needs one name and one count")
        grouped = set[str]().union(*self.groups.values())
        if not grouped <= set(self.classes):
            raise ValueError("a group names an unknown class")
        needed = {WEIGHTS_FILE, RECIPE_FILE}
        if not needed <= self.files.keys() <= {*needed, CONFIDENCE_FILE}:
            raise ValueError(
                f"the files of a bundle are {WEIGHTS_FILE}, {RECIPE_FILE} and"
                f" {CONFIDENCE_FILE}"
            )
        _check_contract(self.contract)
        return self


def _check_contract(contract: Contract) -> None:
    """Check units and planes of a contract.

    Raises:
        ValueError: a list has not one entry per plane, or a unit or band is unknown or
            missing.
    """
    if not contract.units:
        raise ValueError("contract.units is empty; it must have at least one unit")
    unknown = {*contract.units, contract.digital or "uint8"} - UNIT_DTYPES.keys()
    if unknown:
        raise ValueError(f"contract has unknown units: {', '.join(unknown)}")
    lists: dict[str, Sequence[Any]] = {"mean": contract.mean, "std": contract.std}
    lists |= {f"units.{unit}": x for unit, x in contract.units.items()}
    count = len(contract.planes)
    for name, values in lists.items():
        if len(values) != count:
            raise ValueError(
                f"contract.{name} has {len(values)} entries for {count} planes"
            )
    try:
        check_planes(contract.planes, contract.bands)
    except RequestError as error:
        raise ValueError(f"contract.planes: {error.message}") from error


def index_digest(content: JsonObject) -> str:
    """Return the SHA-256 of the content of bundle.json.

    It covers all keys except `sha256`, sorted, as JSON without spaces.
    """
    hashed = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(
        json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def read_index(folder: Path) -> BundleIndex:
    """Read the index of a bundle.

    Raises:
        WeightsError: the index is damaged, edited, or has an unknown format.
    """
    try:
        content = load_json(folder / INDEX_FILE)
        version = content["format"]
        rsft_version = content["rsft_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{INDEX_FILE} is damaged", folder, COPY_HINT) from error
    if version != BUNDLE_FORMAT:
        raise WeightsError(
            (
                f"bundle format {version}; this version of rsft reads format"
                f" {BUNDLE_FORMAT}"
            ),
            folder,
            f"use rsft {rsft_version}",
        )
    if content.get("sha256") != index_digest(content):
        raise WeightsError(
            f"{INDEX_FILE} was edited: its content does not match the hash in it",
            folder,
            COPY_HINT,
        )
    try:
        return BundleIndex.model_validate(content)
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(map(str, details["loc"])) or "its keys"
        raise WeightsError(
            f"{INDEX_FILE} is damaged: {key}: {details['msg']}", folder, COPY_HINT
        ) from error


def find_altered_files(folder: Path, index: BundleIndex) -> list[str]:
    """Compare the files of a bundle with its index; hidden files are ignored.

    Returns:
        One sentence for each file that is missing, changed, or not part of the bundle.
    """
    faults = [
        f"{name} is missing or altered"
        for name, digest in index.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    expected = {INDEX_FILE, *index.files}
    foreign = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in expected and path.name[0] != "."
    )
    return faults + [f"{name} does not belong to the bundle" for name in foreign]


_HINT = "open the bundle again"


class TensorFile(UserDict[str, "Tensor"]):
    """The tensors of a safetensors file by name, read when they are first used.

    Changes are not written to the file.

    Raises:
        safetensors.SafetensorError: the file contains no tensors.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            self.names = tuple(file.keys())
        self._path = path
        self._state = _file_state(path)

    @cached_property
    def data(self) -> NamedTensors:  # type: ignore[override]
        from safetensors.torch import load_file

        try:
            if _file_state(self._path) != self._state:
                raise WeightsError(
                    "the file was replaced after the bundle was opened",
                    self._path,
                    _HINT,
                )
            return load_file(self._path)
        except OSError as error:
            raise WeightsError(
                f"the file cannot be read: {error.strerror}", self._path, _HINT
            ) from error

    def __or__(self, other: Any) -> Any:
        return {**self, **other}


def _file_state(path: Path) -> tuple[int, int, int]:
    """Return values that differ if the file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


# prefix of the tensors of a bundle of several runs, followed by the number of the run
_RUNS = "runs."
_NAME_WITH_RUN = re.compile(r"runs\.[0-9]{1,6}\..+", re.DOTALL)


@dataclass(frozen=True)
class Bundle:
    """Learned tensors with everything needed to classify chips with them.

    The tensors are those of PEFT modules, head and gamma.

    Attributes:
        recipe: the resolved recipe of the run.
        classes: names in the order of the logits.
        groups: class names of head, medium and tail.
        train_counts: number of training chips of each class.
        contract: what a chip must be, and how it becomes the network's input.
        backbone_sha256: hash of the frozen weights.
        tensors: PEFT modules, "gamma" and "head.*"; in a bundle of several runs all
            have a prefix "runs.<number>.". Those of a loaded bundle are read when they
            are first used.
        metrics: accuracy on the validation chips after training; empty if it was not
            measured.
        calibrator: estimates the confidence of predictions; None if it was not fitted.
        licenses: licenses of the backbone and the data; see `read_licenses`.
        packages: version and hash of the packages whose code the PEFT method runs, by
            name; empty for methods of rsft.
        sha256: hash of the whole bundle, from its index; empty until the bundle is
            saved.
        rsft_version: version that saved the bundle.
    """

    recipe: Recipe
    classes: Names
    groups: dict[str, Names]
    train_counts: tuple[int, ...]
    contract: Contract
    backbone_sha256: str
    tensors: MutableMapping[str, Tensor] = field(repr=False)
    metrics: JsonObject = field(default_factory=dict)
    calibrator: Calibrator | None = field(default=None, repr=False)
    licenses: tuple[SourceLicense, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    rsft_version: str = __version__

    def save(self, folder: Path) -> str:
        """Write the bundle atomically to a folder, and return its hash.

        A folder that exists is replaced.
        """
        from safetensors.numpy import save as save_arrays
        from safetensors.torch import save

        with atomic_folder(folder) as temporary:
            tensors = {
                key: value.detach().cpu().contiguous()
                for key, value in self.tensors.items()
            }
            write_bytes(temporary / WEIGHTS_FILE, save(tensors))
            write_text(temporary / RECIPE_FILE, dump_recipe(self.recipe))
            if self.calibrator:
                write_bytes(
                    temporary / CONFIDENCE_FILE, save_arrays(self.calibrator.tensors())
                )
            index = BundleIndex(
                format=BUNDLE_FORMAT,
                rsft_version=__version__,
                name=self.recipe.name,
                backbone=BackboneId(
                    name=self.recipe.backbone.name, sha256=self.backbone_sha256
                ),
                **{name: getattr(self, name) for name in _INDEXED},
                files={path.name: sha256(path) for path in sorted(temporary.iterdir())},
                sha256="",
            )
            content = index.model_dump(mode="json")
            if not self.packages:  # earlier versions of rsft do not know the key
                del content["packages"]
            content["sha256"] = index_digest(content)
            write_json(temporary / INDEX_FILE, content)
        return str(content["sha256"])

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Open a bundle, in a folder as in `find_bundle`.

        Raises:
            RequestError: `folder` contains no bundle.
            WeightsError: the bundle has an unknown format, or a file is missing,
                changed, or not part of the bundle.
            RecipeError: this version of rsft does not know its recipe.
        """
        return read_verified_bundle(*open_intact_index(folder))

    @property
    def members(self) -> list[NamedTensors]:
        """The learned tensors of each run; a bundle averages one or more runs."""
        members: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.tensors.items():
            number = "0"
            name = key
            if key.startswith(_RUNS):
                _, number, name = key.split(".", 2)
            members.setdefault(int(number), {})[name] = tensor
        return [members[number] for number in sorted(members)]

    @property
    def counts_by_class(self) -> dict[str, int]:
        """The number of training chips of each class."""
        return dict(zip(self.classes, self.train_counts, strict=True))

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """The class indices of head, medium and tail."""
        return {
            group: [self.classes.index(name) for name in names]
            for group, names in self.groups.items()
        }


def open_intact_index(folder: Path) -> tuple[Path, BundleIndex]:
    """Return folder and index of a bundle whose files are unchanged.

    The folder is given as in `find_bundle`.

    Raises:
        RequestError: `folder` contains no bundle.
        WeightsError: the bundle has an unknown format, or a file is missing, changed,
            or not part of the bundle.
    """
    folder = find_bundle(folder)
    index = read_index(folder)
    faults = find_altered_files(folder, index)
    if faults:
        raise WeightsError("; ".join(faults), folder, COPY_HINT)
    return folder, index


def combine_bundles(recipe: Recipe, bundles: Sequence[Bundle]) -> Bundle:
    """Combine several runs of a recipe into one bundle that averages them.

    The runs differ only in their seed.

    Returns:
        A bundle without calibrator and metrics, not saved.

    Raises:
        WeightsError: the runs have different data or backbones.
    """
    first = bundles[0]
    for other in bundles[1:]:
        if (other.classes, other.contract, other.backbone_sha256) != (
            first.classes,
            first.contract,
            first.backbone_sha256,
        ):
            raise WeightsError(
                "the runs to average have different data or backbones",
                hint="train them again",
            )
    tensors = {}
    for number, bundle in enumerate(bundles):
        for name, tensor in bundle.tensors.items():
            tensors[f"{_RUNS}{number}.{name}"] = tensor
    return replace(
        first, recipe=recipe, tensors=tensors, metrics={}, calibrator=None, sha256=""
    )


def read_verified_bundle(folder: Path, index: BundleIndex) -> Bundle:
    """Read a bundle whose files have been verified against its index.

    Args:
        folder: the folder of the bundle.
        index: the index, from `read_index`.

    Returns:
        The bundle.

    Raises:
        WeightsError: a file contains no tensors, lacks an expected one, or has one with
            a name of no run.
        RecipeError: this version of rsft does not know its recipe.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays

    try:
        tensors = TensorFile(folder / WEIGHTS_FILE)
        calibrator = None
        if CONFIDENCE_FILE in index.files:
            calibrator = Calibrator.from_tensors(load_arrays(folder / CONFIDENCE_FILE))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(
            f"the tensors cannot be read: {error}", folder, COPY_HINT
        ) from error
    for name in tensors.names:
        if name.startswith(_RUNS) and not _NAME_WITH_RUN.fullmatch(name):
            raise WeightsError(
                "the name of a tensor has no number of its run", folder, COPY_HINT
            )
    return Bundle(
        recipe=load_recipe(folder / RECIPE_FILE),
        **{name: getattr(index, name) for name in _INDEXED},
        backbone_sha256=index.backbone.sha256,
        tensors=tensors,
        calibrator=calibrator,
        sha256=index.sha256,
        rsft_version=index.rsft_version,
    )


def read_licenses(folder: Path) -> tuple[SourceLicense, ...]:
    """Return the licenses of backbone and data, without reading tensors.

    Raises:
        RequestError: `folder` contains no bundle.
        WeightsError: the index is damaged, edited, or has an unknown format.
    """
    return read_index(find_bundle(folder)).licenses


def find_bundle(folder: Path) -> Path:
    """Return the folder of a bundle, also of a run or of runs/<recipe>.

    In runs/<recipe>, it is that of the newest run with a bundle.

    Returns:
        The bundle's folder.

    Raises:
        RequestError: `folder` contains no bundle.
    """
    numbered = [path for path in folder.glob("*") if path.name.isdecimal()]
    newest_first = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    runs = [folder, *newest_first]
    for candidate in (folder, *(run / "bundle" for run in runs)):
        if (candidate / INDEX_FILE).is_file():
            return candidate
    raise RequestError(
        "no bundle found",
        folder,
        "give the folder bundle/ of a run, the run folder, or runs/<recipe>",
    )
