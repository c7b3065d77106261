"""Open the trackers of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from rsft.errors import RequestError
from rsft.recipe.registries import TRACKERS

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe


class Tracker(Protocol):
    """The open record of one run in a tracker.

    Attributes:
        id: identifier of the record, which a resumed run continues.
    """

    id: str

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers at a step of the run.

        Args:
            step: number of training batches since the start of the run.
            values: name -> number; names have slashes, as in "train/loss".
        """

    def close(self, failed: bool) -> None:
        """End the record.

        Args:
            failed: whether the run ended with an error.
        """


class TrackerConfig(Protocol):
    """A tracker that records the numbers of a run.

    Attributes:
        name: name in recipes.
        title: name in reports.
        packages: packages that must be installed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> Tracker:
        """Begin the record of a run, or continue one.

        Args:
            recipe: the recipe of the run.
            folder: the run folder.
            record_id: id of the record to continue; None begins a new one.

        Returns:
            The open record.
        """


def require_trackers(recipe: Recipe) -> None:
    """Raise an error if a package of a run's trackers is not installed.

    Args:
        recipe: the recipe of the run.

    Raises:
        RequestError: a package is missing.
    """
    for name in recipe.track.to:
        missing = [package for package in _tracker(name).packages if find_spec(package) is None]
        if missing:
            fix = f"pip install 'rsft[track]', or leave {name} out of track.to"
            raise RequestError(f"the tracker {name} needs {', '.join(missing)}", "track.to", fix)


def open_tracker(name: str, recipe: Recipe, folder: Path, record_id: str | None = None) -> Tracker:
    """Open the record of a run in a tracker.

    Args:
        name: the name of the tracker in `TRACKERS`.
        recipe: the recipe of the run.
        folder: the run folder.
        record_id: id of the record from an earlier process, to continue it; None begins a new one.

    Returns:
        The open record.
    """
    return _tracker(name)().open(recipe, folder, record_id)


def _tracker(name: str) -> type[TrackerConfig]:
    return cast("type[TrackerConfig]", TRACKERS[name])
