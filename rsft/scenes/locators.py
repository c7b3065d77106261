"""Locators: what else says where the objects of a scene are, and of which class.

A locator joins the objects of `--at` or `--detect` with a source of its own, such as
the messages of ships. It is the option `--<name> FILE` of `rsft predict` and `rsft
prepare scenes`. The command line imports its module for the help, so that imports
nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rsft.errors import RequestError
from rsft.utils.registry import Registry

if TYPE_CHECKING:
    from rsft.scenes.locations import SceneLocations
    from rsft.scenes.raster import RasterScene
    from rsft.types import Progress

MATCHED = "matched"
"""Status of an object whose class is sure."""

UNKNOWN = "unknown"
"""Class of an object that the source has, but not its type."""
MIN_CONFIDENCE = 0.9
"""Confidence below which a match is not sure."""


class NothingInSceneError(RequestError):
    """The source of a locator has nothing in a scene, such as messages of elsewhere."""


class Locator(ABC):
    """Says of which class the objects of a scene are.

    Attributes:
        name: its name, and that of its option.
        title: what it reads, such as "AIS messages".
        help: what its option takes.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]

    @abstractmethod
    def locate(
        self,
        scene: RasterScene,
        source: Path,
        find_objects: Callable[[], SceneLocations],
        min_confidence: float,
        progress: Progress | None,
    ) -> SceneLocations:
        """Return the objects with what the source says about them as attributes.

        The attributes `<name>_status`, `<name>_class`, `<name>_mmsi` and
        `<name>_confidence` make training chips: those of objects with the status
        `MATCHED`, but not of the class `UNKNOWN`.

        Args:
            scene: the scene.
            source: file or folder of the option.
            find_objects: returns the objects of a file or a detector. It is called if
                the source has something in the scene, since a detection takes minutes.
            min_confidence: objects with a smaller confidence are not matched.
            progress: called while the source is read.

        Raises:
            NothingInSceneError: the source has nothing in the scene.
            RequestError: the source cannot be used.
        """


LOCATORS: Registry[type[Locator]] = Registry(
    "locator", "rsft.locators", "rsft.scenes.locators"
)
"""All locators by the name of their option."""


def describe_locators() -> dict[str, str]:
    """Return the help of the option of each locator, by its name."""
    return {name: LOCATORS[name].help for name in LOCATORS}
