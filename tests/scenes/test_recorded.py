"""Objects that a journal keeps are not searched again."""

import pytest

from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.recorded import find_once


class Notes(dict):
    """The notes of a journal."""

    get_note = dict.get
    set_note = dict.__setitem__


def test_objects_are_found_once():
    calls = []
    location = Location(2.5, 3.0, (0, 0, 0, 4, 4, 4, 4, 0), "a_1", score=1.25)

    def find():
        calls.append(1)
        return SceneLocations([location], notes=["1 object"], are_boxes=True)

    journal = Notes()
    first = find_once(journal, "a", find)
    again = find_once(journal, "a", find)
    assert len(calls) == 1
    for objects in (first, again):
        assert objects.locations == [location] and objects.notes == ["1 object"]
        assert objects.are_boxes
    find_once(journal, "b", find)
    assert len(calls) == 2


def test_an_error_leaves_no_record():
    journal = Notes()
    with pytest.raises(OSError, match="disk"):
        find_once(journal, "a", lambda: (_ for _ in ()).throw(OSError("disk")))
    assert not journal
