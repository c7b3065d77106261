"""Save a bundle atomically, and load it only if no file was changed.

Its tensors are read when they are first used. A graph engine needs neither them nor PyTorch.
"""

from __future__ import annotations

import json
import re
from collections import UserDict
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.manifest import (
    BUNDLE_FORMAT,
    CONFIDENCE_FILE,
    COPY_HINT,
    DIGEST_KEY,
    INDEX_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    BackboneId,
    BundleIndex,
    SourceLicense,
    find_altered_files,
    index_digest,
    read_index,
)
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import atomic_folder, sha256, write_bytes, write_text
from rsft.version import __version__

if TYPE_CHECKING:
    from torch import Tensor


_HINT = "open the bundle again"


class TensorFile(UserDict[str, "Tensor"]):
    """The tensors of a safetensors file by name, read when they are first used. Changes are not written to the file.

    Args:
        path: the file.

    Raises:
        safetensors.SafetensorError: the file contains no tensors.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            self.names = tuple(file.keys())
        self._path, self._state = path, _file_state(path)

    @cached_property
    def data(self) -> dict[str, Tensor]:  # type: ignore[override]
        from safetensors.torch import load_file

        try:
            if _file_state(self._path) != self._state:
                raise WeightsError("the file was replaced after the bundle was opened", self._path, _HINT)
            return load_file(self._path)
        except OSError as error:
            raise WeightsError(f"the file cannot be read: {error.strerror}", self._path, _HINT) from error

    def __or__(self, other: Any) -> Any:
        return {**self, **other}


def _file_state(path: Path) -> tuple[int, int, int]:
    """Return values that differ if the file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


_RUNS = "runs."  # prefix of the tensors of a bundle of several runs, followed by the number of the run
_NAME_WITH_RUN = re.compile(r"runs\.[0-9]{1,6}\..+", re.DOTALL)


@dataclass(frozen=True)
class Bundle:
    """Learned tensors (PEFT modules, head, gamma) with everything needed to classify chips with them.

    Attributes:
        recipe: the resolved recipe of the run.
        classes: names in the order of the logits.
        groups: class names of head, medium and tail.
        train_counts: number of training chips of each class.
        contract: what a chip must be, and how it becomes the network's input.
        backbone_sha256: hash of the frozen weights.
        tensors: PEFT modules, "gamma" and "head.*"; in a bundle of several runs all have a prefix "runs.<number>.".
            Those of a loaded bundle are read when they are first used.
        metrics: accuracy on the validation chips after training; empty if it was not measured.
        calibrator: estimates the confidence of predictions; None if it was not fitted.
        licenses: licenses of the backbone and the data; see `read_licenses`.
        sha256: hash of the whole bundle, from its index; empty until the bundle is saved.
        rsft_version: version that saved the bundle.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    train_counts: tuple[int, ...]
    contract: Contract
    backbone_sha256: str
    tensors: MutableMapping[str, Tensor] = field(repr=False)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibrator: Calibrator | None = field(default=None, repr=False)
    licenses: tuple[SourceLicense, ...] = ()
    sha256: str = ""
    rsft_version: str = __version__

    def save(self, folder: Path) -> str:
        """Write the bundle atomically and return its hash.

        Args:
            folder: the folder to create or to replace.
        """
        from safetensors.numpy import save as save_arrays
        from safetensors.torch import save

        with atomic_folder(folder) as temporary:
            tensors = {key: value.detach().cpu().contiguous() for key, value in self.tensors.items()}
            write_bytes(temporary / WEIGHTS_FILE, save(tensors))
            write_text(temporary / RECIPE_FILE, dump_recipe(self.recipe))
            if self.calibrator is not None:
                write_bytes(temporary / CONFIDENCE_FILE, save_arrays(self.calibrator.tensors()))
            index = BundleIndex(
                format=BUNDLE_FORMAT,
                rsft_version=__version__,
                name=self.recipe.name,
                backbone=BackboneId(name=self.recipe.backbone.name, sha256=self.backbone_sha256),
                classes=self.classes,
                groups=self.groups,
                train_counts=self.train_counts,
                contract=self.contract,
                metrics=self.metrics,
                licenses=self.licenses,
                files={path.name: sha256(path) for path in sorted(temporary.iterdir())},
            )
            content = index.model_dump(mode="json")
            digest = index_digest(content)
            write_text(temporary / INDEX_FILE, json.dumps(content | {DIGEST_KEY: digest}, indent=1))
        return digest

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Open a bundle.

        Args:
            folder: a bundle, a run folder, or runs/<recipe> for its newest run with a bundle (`find_bundle`).

        Returns:
            The bundle.

        Raises:
            RequestError: `folder` contains no bundle.
            WeightsError: the bundle has an unknown format, or a file is missing, changed, or not part of the bundle.
            RecipeError: this version of rsft does not know its recipe.
        """
        folder = find_bundle(folder)
        index, digest = read_index(folder)
        faults = find_altered_files(folder, index)
        if faults:
            raise WeightsError("; ".join(faults), folder, COPY_HINT)
        return read_verified_bundle(folder, index, digest)

    @property
    def members(self) -> list[dict[str, Tensor]]:
        """The learned tensors of each run; a bundle has one run, or several to average."""
        if not all(key.startswith(_RUNS) for key in self.tensors):
            return [dict(self.tensors)]
        members: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.tensors.items():
            number, _, name = key.removeprefix(_RUNS).partition(".")
            members.setdefault(int(number), {})[name] = tensor
        return [members[number] for number in sorted(members)]

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """The class indices of head, medium and tail."""
        return {group: [self.classes.index(name) for name in names] for group, names in self.groups.items()}


def combine_bundles(recipe: Recipe, bundles: Sequence[Bundle]) -> Bundle:
    """Combine several runs of a recipe, which differ only in their seed, into one bundle that averages them.

    Args:
        recipe: the recipe of the combined bundle.
        bundles: the bundles of the runs.

    Returns:
        A bundle without calibrator and metrics, not saved.

    Raises:
        WeightsError: the runs have different data or backbones.
    """
    first = bundles[0]
    expected = (first.classes, first.contract, first.backbone_sha256)
    if any((other.classes, other.contract, other.backbone_sha256) != expected for other in bundles[1:]):
        raise WeightsError("the runs to average have different data or backbones", hint="train them again")
    tensors = {f"{_RUNS}{i}.{key}": value for i, bundle in enumerate(bundles) for key, value in bundle.tensors.items()}
    return replace(first, recipe=recipe, tensors=tensors, metrics={}, calibrator=None, sha256="")


def read_verified_bundle(folder: Path, index: BundleIndex, digest: str) -> Bundle:
    """Read a bundle whose files have been verified against its index.

    Args:
        folder: the folder of the bundle.
        index: the index, from `read_index`.
        digest: the hash of the bundle, from `read_index`.

    Returns:
        The bundle.

    Raises:
        WeightsError: a file contains no tensors, lacks an expected one, or has one with a name of no run.
        RecipeError: this version of rsft does not know its recipe.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays

    try:
        tensors = TensorFile(folder / WEIGHTS_FILE)
        arrays = load_arrays(folder / CONFIDENCE_FILE) if CONFIDENCE_FILE in index.files else None
        calibrator = None if arrays is None else Calibrator.from_tensors(arrays)
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"the tensors cannot be read: {error}", folder, COPY_HINT) from error
    if any(name.startswith(_RUNS) and not _NAME_WITH_RUN.fullmatch(name) for name in tensors.names):
        raise WeightsError("the name of a tensor has no number of its run", folder, COPY_HINT)
    return Bundle(
        recipe=load_recipe(folder / RECIPE_FILE),
        classes=index.classes,
        groups=index.groups,
        train_counts=index.train_counts,
        contract=index.contract,
        backbone_sha256=index.backbone.sha256,
        tensors=tensors,
        metrics=index.metrics,
        calibrator=calibrator,
        licenses=index.licenses,
        sha256=digest,
        rsft_version=index.rsft_version,
    )


def read_licenses(folder: Path) -> tuple[SourceLicense, ...]:
    """Return the licenses of the backbone and the data of a bundle, without reading its tensors.

    Args:
        folder: a folder as in `find_bundle`.

    Raises:
        RequestError: `folder` contains no bundle.
        WeightsError: the index is damaged, edited, or has an unknown format.
    """
    index, _ = read_index(find_bundle(folder))
    return index.licenses


def find_bundle(folder: Path) -> Path:
    """Return the folder of a bundle.

    Args:
        folder: the bundle itself, a run folder runs/<recipe>/<number>, or runs/<recipe> for its newest run with a
            bundle.

    Returns:
        The bundle's folder.

    Raises:
        RequestError: `folder` contains no bundle.
    """
    numbered = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    newest_first = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    for candidate in (folder, folder / "bundle", *(path / "bundle" for path in newest_first)):
        if (candidate / INDEX_FILE).is_file():
            return candidate
    raise RequestError("no bundle found", folder, "give the folder bundle/ of a run, the run folder, or runs/<recipe>")
