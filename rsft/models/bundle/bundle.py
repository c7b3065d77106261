"""The bundle itself: saved whole, opened only if nothing in it was altered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft import __version__
from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.manifest import (
    CONFIDENCE,
    COPY,
    FORMAT,
    INDEX,
    RECIPE,
    WEIGHTS,
    BackboneId,
    Index,
    altered,
    read_index,
)
from rsft.models.uncertainty.calibrator import Confidence
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe
from rsft.utils.atomic_files import replacing_folder, sha256, write_bytes, write_text

if TYPE_CHECKING:
    from torch import Tensor

_RUNS = "runs."


@dataclass(frozen=True)
class Bundle:
    """Adapter, head and modulator with what they mean.

    Attributes:
        recipe: the resolved recipe that made it.
        classes: names, in the order of the logits.
        groups: class names of head, medium and tail.
        train_counts: training chips of each class.
        contract: what a chip must be.
        backbone_sha256: hash of the frozen weights that it belongs to.
        tensors: adapter, "gamma" and "head.*"; of an average of several runs each with "runs.<number>." before it.
        metrics: accuracy on the validation chips when training ended; empty where it was never measured.
        confidence: how far its answers can be trusted; None where it was never fitted.
        sha256: of the whole bundle, as its index names it; empty until it is saved.
        rsft_version: that saved it.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    train_counts: tuple[int, ...]
    contract: Contract
    backbone_sha256: str
    tensors: dict[str, Tensor] = field(repr=False)
    metrics: dict[str, Any] = field(default_factory=dict)
    confidence: Confidence | None = field(default=None, repr=False)
    sha256: str = ""
    rsft_version: str = __version__

    def save(self, folder: Path) -> str:
        """Write the bundle as `folder`, whole or not at all, and return its hash."""
        from safetensors.numpy import save as save_arrays
        from safetensors.torch import save

        with replacing_folder(folder) as temporary:
            tensors = {key: value.detach().cpu().contiguous() for key, value in self.tensors.items()}
            write_bytes(temporary / WEIGHTS, save(tensors))
            write_text(temporary / RECIPE, dump_recipe(self.recipe))
            if self.confidence is not None:
                write_bytes(temporary / CONFIDENCE, save_arrays(self.confidence.tensors()))
            index = Index(
                format=FORMAT,
                rsft_version=__version__,
                name=self.recipe.name,
                backbone=BackboneId(name=self.recipe.backbone.name, sha256=self.backbone_sha256),
                classes=self.classes,
                groups=self.groups,
                train_counts=self.train_counts,
                contract=self.contract,
                metrics=self.metrics,
                files={path.name: sha256(path) for path in sorted(temporary.iterdir())},
            )
            text, digest = index.sealed()
            write_text(temporary / INDEX, text)
        return digest

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Open a bundle, or the newest one of a run's or a recipe's folder (`find_bundle`).

        Raises:
            RequestError: `folder` is no bundle.
            WeightsError: it is of another format, incomplete, altered, or holds a file that is not its own.
            RecipeError: its recipe is one that this rsft does not know.
        """
        folder = find_bundle(folder)
        index, digest = read_index(folder)
        faults = altered(folder, index)
        if faults:
            raise WeightsError("; ".join(faults), folder, COPY)
        return open_checked(folder, index, digest)

    @property
    def members(self) -> list[dict[str, Tensor]]:
        """What each of the runs learned that are averaged here; it is one, as a rule."""
        if not all(key.startswith(_RUNS) for key in self.tensors):
            return [self.tensors]
        members: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.tensors.items():
            number, _, own = key.removeprefix(_RUNS).partition(".")
            members.setdefault(int(number), {})[own] = tensor
        return [members[number] for number in sorted(members)]

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """Head, medium and tail as class indices."""
        return {group: [self.classes.index(name) for name in names] for group, names in self.groups.items()}


def combine(recipe: Recipe, bundles: Sequence[Bundle]) -> Bundle:
    """The average of several runs of `recipe`, which differ by their seed alone; without confidence, and not saved.

    Raises:
        WeightsError: they are of other data or another backbone.
    """
    first = bundles[0]
    for other in bundles[1:]:
        if (other.classes, other.contract, other.backbone_sha256) != (
            first.classes,
            first.contract,
            first.backbone_sha256,
        ):
            raise WeightsError("the runs to average are of other data or another backbone", fix="train them again")
    tensors = {f"{_RUNS}{i}.{key}": value for i, bundle in enumerate(bundles) for key, value in bundle.tensors.items()}
    return replace(first, recipe=recipe, tensors=tensors, metrics={}, confidence=None, sha256="")


def open_checked(folder: Path, index: Index, digest: str) -> Bundle:
    """The bundle whose index and files were looked at already.

    Raises:
        WeightsError: a file that holds no tensors, or not those that it should.
        RecipeError: its recipe is one that this rsft does not know.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / WEIGHTS)
        arrays = load_arrays(folder / CONFIDENCE) if CONFIDENCE in index.files else None
        confidence = None if arrays is None else Confidence.from_tensors(arrays)
    except (SafetensorError, KeyError) as error:
        raise WeightsError(f"the tensors cannot be read: {error}", folder, COPY) from error
    return Bundle(
        recipe=load_recipe(folder / RECIPE),
        classes=index.classes,
        groups=index.groups,
        train_counts=index.train_counts,
        contract=index.contract,
        backbone_sha256=index.backbone.sha256,
        tensors=tensors,
        metrics=index.metrics,
        confidence=confidence,
        sha256=digest,
        rsft_version=index.rsft_version,
    )


def find_bundle(folder: Path) -> Path:
    """The bundle at `folder`: itself, that of the run runs/<recipe>/<number>, or the newest of runs/<recipe>.

    Raises:
        RequestError: there is none.
    """
    numbered = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    newest_first = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    for candidate in (folder, folder / "bundle", *(path / "bundle" for path in newest_first)):
        if (candidate / INDEX).is_file():
            return candidate
    raise RequestError("there is no bundle", folder, "give the folder bundle/ of a run, the run's, or runs/<recipe>")
