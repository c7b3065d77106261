"""What a run leaves behind: everything that is needed to classify new chips, except the backbone itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft import __version__
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
        tensors: adapter, "gamma" and "head.*".
        metrics: of its evaluation, as far as known.
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
    sha256: str = ""

    def save(self, folder: Path) -> str:
        """Write the bundle as `folder`, whole or not at all, and return its hash."""
        from safetensors.torch import save

        with replacing_folder(folder) as temporary:
            write_bytes(
                temporary / _WEIGHTS,
                save({key: value.detach().cpu().contiguous() for key, value in self.tensors.items()}),
            )
            write_text(temporary / _RECIPE, dump_recipe(self.recipe))
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
                "files": {name: sha256(temporary / name) for name in (_WEIGHTS, _RECIPE)},
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
            sha256=hashlib.sha256(text).hexdigest(),
        )

    @property
    def group_indices(self) -> dict[str, list[int]]:
        """Head, medium and tail as class indices."""
        return {group: [self.classes.index(name) for name in names] for group, names in self.groups.items()}


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
