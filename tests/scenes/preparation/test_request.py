"""Options of prepared scenes: the size of chips, and what is refused."""

import pytest

from rsft.data.chips.store import read_dataset
from rsft.errors import RequestError
from tests.helpers.messages import mentions
from tests.helpers.scene_stores import prepare
from tests.scenes.preparation.conftest import chips_of, prepared


# class, row, col, length, width
def test_the_size_of_chips(scenes, tmp_path):
    sizes = {}
    for name, options in {
        "boxes": {"size": None},
        "meters": {"size": "480m"},
        "margin": {"size": "box+3"},
    }.items():
        store = prepared(scenes, tmp_path / name, **options)
        sizes[name] = {pixels.shape[:2] for pixels in chips_of(store).values()}
    assert sizes["boxes"] == {(64, 64)} and sizes["meters"] == {(48, 48)}
    assert sizes["margin"] == {(16, 36), (18, 46), (10, 12)}
    notes = read_dataset(tmp_path / "boxes")["notes"]
    assert notes[1] == "chips of 64 x 64 pixels, by the boxes: --size changes this"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"at": None},
            ["no labels", "--at FILE or --ais FILE", "rsft predict"],
        ),
        ({"field": "kind"}, ["no field kind", "type, mmsi", "--field"]),
        ({"size": "large"}, ["'large' is no size", "640m", "box+8"]),
        ({"size": "99999"}, ["99,999 pixels", "8192"]),
        ({"split": "given"}, ["a label has no split", "train, val or test"]),
        (
            {"val": 0.4, "test": 0.4, "split": "scene"},
            ["scene: 2 cannot be divided between train, val, test", "--split object"],
        ),
        ({"unit": "db"}, ["--unit db, but the file declares sigma0"]),
        ({"crs": "EPSG:4326", "layer": "x"}, ["no layer x"]),
    ],
)
def test_wrong_options_write_nothing(scenes, tmp_path, options, parts):
    folder, labels = scenes
    with pytest.raises(RequestError, match=mentions(*parts)):
        prepare(folder, tmp_path / "store", **({"at": labels, "jobs": 1} | options))
    assert not (tmp_path / "store").exists()
