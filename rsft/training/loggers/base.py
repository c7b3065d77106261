"""The trackers that a recipe may name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from rsft.errors import RequestError
from rsft.recipe.schema import Recipe

PACKAGES: dict[str, tuple[str, ...]] = {
    "tensorboard": (),  # its files are written here; the package is needed to look at them
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}
"""What each of them must import."""


class Tracker(Protocol):
    """Takes the numbers of one run.

    Attributes:
        id: by which a later process goes on with the same record.
    """

    id: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name at a step of the run; names have slashes, as in "train/loss"."""

    def close(self, failed: bool) -> None:
        """The run is over."""


def require_trackers(recipe: Recipe) -> None:
    """Find out before a run whether what its recipe names is installed.

    Raises:
        RequestError: it is not.
    """
    for name in recipe.track.to:
        missing = [package for package in PACKAGES[name] if find_spec(package) is None]
        if missing:
            fix = f"pip install 'rsft[track]', or leave {name} out of track.to"
            raise RequestError(f"the tracker {name} needs {', '.join(missing)}", "track.to", fix)


def open_tracker(name: str, recipe: Recipe, folder: Path, known: str | None = None) -> Tracker:
    """The tracker `name` for the run in `folder`; `known` is the id that it had in an earlier process."""
    module = import_module(f"rsft.training.loggers.{name}")
    return cast(Tracker, module.open_run(recipe, folder, known))
