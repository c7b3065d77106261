"""Opens the trackers that a recipe names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rsft.errors import RequestError
from rsft.recipe.registries import TRACKERS, Tracker

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe


def require_trackers(recipe: Recipe) -> None:
    """Check before a run that the packages of its trackers are installed.

    Args:
        recipe: of the run.

    Raises:
        RequestError: a package is missing.
    """
    for name in recipe.track.to:
        missing = [package for package in TRACKERS[name].packages if find_spec(package) is None]
        if missing:
            fix = f"pip install 'rsft[track]', or leave {name} out of track.to"
            raise RequestError(f"the tracker {name} needs {', '.join(missing)}", "track.to", fix)


def open_tracker(name: str, recipe: Recipe, folder: Path, record_id: str | None = None) -> Tracker:
    """Open the record of a run in a tracker.

    Args:
        name: of the tracker.
        recipe: of the run.
        folder: the run folder.
        record_id: id of the record from an earlier process, to continue it; None begins a new one.

    Returns:
        The open record.
    """
    return TRACKERS[name]().open(recipe, folder, record_id)
