"""What a run leaves behind: everything that is needed to classify new chips, except the backbone itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft import __version__
from rsft.confidence import Confidence
from rsft.errors import RequestError, WeightsError
from rsft.files import replacing_folder, sha256, write_bytes, write_text
from rsft.imagery.contract import Contract
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
"""Version of the layout; a bundle of another version is refused."""

_INDEX, _WEIGHTS, _RECIPE = "bundle.json", "weights.safetensors", "recipe.yaml"
_CONFIDENCE = "confidence.safetensors"
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
        metrics: of its evaluation, as far as known.
        confidence: how far its answers can be trusted; None where it was never fitted.
        sha256: of the whole bundle; empty until it is saved.
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

    def save(self, folder: Path) -> str:
        """Write the bundle as `folder`, whole or not at all, and return its hash."""
        from safetensors.numpy import save as save_arrays
        from safetensors.torch import save

        with replacing_folder(folder) as temporary:
            write_bytes(
                temporary / _WEIGHTS,
                save({key: value.detach().cpu().contiguous() for key, value in self.tensors.items()}),
            )
            write_text(temporary / _RECIPE, dump_recipe(self.recipe))
            if self.confidence is not None:
                write_bytes(temporary / _CONFIDENCE, save_arrays(self.confidence.tensors()))
            index = {
                "format": FORMAT,
                "rsft_version": __version__,
                "name": self.recipe.name,
                "backbone": {"name": self.recipe.backbone.name, "sha256": self.backbone_sha256},
                "classes": self.classes,
                "groups": self.groups,
                "train_counts": self.train_counts,
                "contract": self.contract.model_dump(),
                "metrics": self.metrics,
                "files": {path.name: sha256(path) for path in sorted(temporary.iterdir())},
            }
            text = json.dumps(index, indent=1)
            write_text(temporary / _INDEX, text)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Open a bundle, or the newest one of a run's or a recipe's folder (`find_bundle`).

        Raises:
            RequestError: `folder` is no bundle.
            WeightsError: it is of another format, incomplete or altered.
        """
        from safetensors.torch import load_file

        folder = find_bundle(folder)
        text = (folder / _INDEX).read_bytes()
        try:
            index = json.loads(text)
            expected, form = dict(index["files"]), index["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError("bundle.json is damaged", folder, "copy the bundle again") from error
        if form != FORMAT:
            raise WeightsError(
                f"bundle format {form}; this rsft reads {FORMAT}", folder, f"use rsft {index['rsft_version']}"
            )
        for name, digest in expected.items():
            if not (folder / name).is_file() or sha256(folder / name) != digest:
                raise WeightsError(f"{name} is missing or altered", folder, "copy the whole bundle again")
        return cls(
            recipe=load_recipe(folder / _RECIPE),
            classes=tuple(index["classes"]),
            groups={group: tuple(names) for group, names in index["groups"].items()},
            train_counts=tuple(index["train_counts"]),
            contract=Contract.model_validate(index["contract"]),
            backbone_sha256=index["backbone"]["sha256"],
            tensors=load_file(folder / _WEIGHTS),
            metrics=index["metrics"],
            confidence=_confidence(folder / _CONFIDENCE) if _CONFIDENCE in expected else None,
            sha256=hashlib.sha256(text).hexdigest(),
        )

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


def _confidence(path: Path) -> Confidence:
    from safetensors.numpy import load_file

    return Confidence.from_tensors(load_file(path))


def find_bundle(folder: Path) -> Path:
    """The bundle at `folder`: itself, that of the run runs/<recipe>/<number>, or the newest of runs/<recipe>.

    Raises:
        RequestError: there is none.
    """
    numbered = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    newest_first = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    for candidate in (folder, folder / "bundle", *(path / "bundle" for path in newest_first)):
        if (candidate / _INDEX).is_file():
            return candidate
    raise RequestError("there is no bundle", folder, "give the folder bundle/ of a run, the run's, or runs/<recipe>")
