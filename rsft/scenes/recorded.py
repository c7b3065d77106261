"""Keep the objects that were found in a scene in the journal of the job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from rsft.data.imagery.scene_uri import file_state
from rsft.scenes.detection import detect_objects
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.options import Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import RasterScene
from rsft.types import Progress
from rsft.utils.journal import Journal, journal_path
from rsft.version import __version__

_RECORD = TypeAdapter(tuple[list[Location], list[str]])


def find_once(
    journal: Journal, name: str, find: Callable[[], SceneLocations]
) -> SceneLocations:
    """Return the objects that the journal has, else find and record them."""
    record = journal.get_note(name)
    if record is None:
        objects = find()
        record = _RECORD.dump_json((objects.locations, objects.notes)).decode()
        journal.set_note(name, record)
    locations, notes = _RECORD.validate_json(record)
    return SceneLocations(locations, notes=notes, are_boxes=True)


@contextmanager
def recorded_detector(
    output: Path,
    options: CfarOptions,
    declaration: Declaration,
    progress: Progress | None,
) -> Iterator[Callable[[RasterScene], SceneLocations]]:
    """Yield a function that detects the objects of a scene and records them.

    The records lie beside the output until the block ends without an error, so that a
    killed job does not detect again.

    Args:
        output: file or folder that the job writes.
        options: options of the detector.
        declaration: unit, bands and pixel spacing of the scenes, if their files do not
            state them.
        progress: called with numbers of windows.
    """
    land = file_state(options.land) if isinstance(options.land, Path) else None
    key = repr((__version__, declaration, options, land))
    journal = Journal(journal_path(output), key)

    def detect(scene: RasterScene) -> SceneLocations:
        name = f"detected in {scene.path}, {scene.path.state()}"
        find = partial(detect_objects, scene, options, declaration, progress)
        return find_once(journal, name, find)

    is_finished = False
    try:
        yield detect
        is_finished = True
    finally:
        journal.close(is_finished)
