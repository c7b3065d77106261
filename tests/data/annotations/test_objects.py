"""Objects of labeling tools as a table."""

from pathlib import Path

import pytest

from rsft.data.annotations.objects import ObjectFormat, ObjectList
from rsft.data.annotations.shapes import make_box, try_shape
from rsft.errors import RequestError
from tests.helpers.messages import mentions

BOX = try_shape(make_box, 0, 0, 2, 1)


def test_rows_images_and_what_was_left_out():
    objects = ObjectList()
    objects.add_image("a.png", "40", 30.0)
    objects.add_image("b.png", "wide", None)
    objects.add_image("c.png", 0, 5)
    objects.add_image("")
    objects.add(BOX, {"class": "ship", "length": "12"}, image="a.png", score=0.5)
    objects.add((None, "no area"), {"class": "tug"}, identity="x")
    objects.left_out["line"] += 2
    objects.notes.append("read me")
    annotations = objects.make_annotations(Path("f.json"), "pixel", has_types=False)
    table = annotations.table
    assert table["at"].tolist() == [1, "x"] or table["at"].tolist() == ["1", "x"]
    assert table["class"].tolist() == ["ship", "tug"]
    assert table["length"].tolist()[0] == 12 and table["length"].isna()[1:].all()
    assert table["_fault"].tolist() == ["", "no area"]
    assert table["_image"].tolist() == ["a.png", ""]
    assert table["_score"].tolist()[0] == 0.5
    assert annotations.images == ("a.png", "b.png", "c.png")
    assert annotations.sizes == {"a.png": (40, 30)} and annotations.are_boxes
    assert annotations.notes[0] == "read me" and "2 line" in annotations.notes[1]


class Toy(ObjectFormat):
    """A format whose reader fails with the error of its file."""

    name = "toy"
    title = "Toy"
    suffixes = (".toy",)

    def parse(self, path, objects):
        raise {"key": KeyError("boxes"), "value": ValueError("boxes are no list")}[
            path.read_text()
        ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("key", ("not a file of Toy", "boxes")), ("value", ("boxes are no list",))],
)
def test_faults_of_a_file_are_named(tmp_path, text, words):
    (tmp_path / "x.toy").write_text(text)
    with pytest.raises(RequestError, match=mentions("x.toy", *words, "export")):
        Toy().read(tmp_path / "x.toy")
