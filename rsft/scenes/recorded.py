"""Keep the objects that were found in a scene in the journal of the job."""

from collections.abc import Callable

from pydantic import TypeAdapter

from rsft.scenes.locations import Location, SceneLocations
from rsft.utils.journal import Journal

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
