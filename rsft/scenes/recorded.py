"""Keep the objects that were found in a scene in the journal of the job."""

import json
from collections.abc import Callable

from rsft.scenes.locations import Location, SceneLocations
from rsft.utils.journal import Journal


def find_once(
    journal: Journal, name: str, find: Callable[[], SceneLocations]
) -> SceneLocations:
    """Return the objects that the journal has, else find and record them."""
    record = journal.get_note(name)
    if record is None:
        objects = find()
        rows = [location._asdict() for location in objects.locations]
        record = json.dumps({"locations": rows, "notes": objects.notes})
        journal.set_note(name, record)
    content = json.loads(record)
    locations = [
        Location(**{**row, "box": tuple(row["box"])}) for row in content["locations"]
    ]
    return SceneLocations(locations, notes=content["notes"], are_boxes=True)
