"""Training chips with the classes of AIS: scenes without messages, interrupted builds, and declared units."""

from __future__ import annotations

import pytest

from rsft.data.chips.store import read_dataset
from rsft.errors import RequestError
from rsft.inference.preparation import labels
from rsft.inference.prepare_scenes import prepare_scenes
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff

OPTIONS = {"land": "none", "split": "object", "val": 0.3, "jobs": 1}


def write_sea(folder, name="a.tif", east=0, day="2021-01-19", **options):
    """Write a scene in sigma0 without ships, of the time of the traffic or another day."""
    transform = UTM * UTM.translation(east, 0)
    tags = {"ACQUISITION_DATETIME": f"{day}T03:16:53Z"}
    profile = {"crs": "EPSG:32633", "transform": transform, "names": ("VV",), "units": ("sigma0",), "tags": tags}
    return write_geotiff(folder / name, simulate_sea(200, 200) ** 2, **(profile | options))


@pytest.mark.slow
def test_scenes_without_messages_are_left_out_and_named(traffic, tmp_path, monkeypatch):
    write_sea(tmp_path, "far.tif", east=50_000)
    write_sea(tmp_path, "later.tif", day="2021-02-19")
    searched = []
    detect = labels.detect_objects
    monkeypatch.setattr(labels, "detect_objects", lambda scene, *x: searched.append(scene.name) or detect(scene, *x))
    store = prepare_scenes(tmp_path, tmp_path / "store", ais=traffic.ais, **OPTIONS)
    assert sorted(store.table["class"]) == ["cargo", "fishing", "tanker"]
    assert store.skipped["scene without AIS messages"] == 2 and searched == [traffic.scene.stem]
    notes = [note for note in read_dataset(store.root)["notes"] if "is left out" in note]
    assert [note.partition(": ")[0] for note in notes] == ["far.tif is left out", "later.tif is left out"]
    assert "no AIS position lies near the scene" in notes[0] and "2021-02-19 02:46:53 UTC" in notes[1]


def test_no_scene_with_messages_is_an_error(tmp_path):
    ais = tmp_path / "ais.csv"
    ais.write_text("MMSI,BaseDateTime,LAT,LON\n219000001,2021-01-19T03:16:00Z,45.15,15.01\n")
    write_sea(tmp_path, "far.tif", east=50_000)
    write_sea(tmp_path, "later.tif", day="2021-02-19")
    with pytest.raises(RequestError, match=mentions("none of the scenes (2)", "ais.csv", "AIS file of this region")):
        prepare_scenes(tmp_path, tmp_path / "store", ais=ais, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ais.csv", "far.tif", "later.tif"]


def test_a_scene_without_time_is_named_with_the_command_that_stores_it(tmp_path):
    ais = tmp_path / "ais.csv"
    ais.write_text("MMSI,BaseDateTime,LAT,LON\n219000001,2021-01-19T03:16:00Z,45.15,15.01\n")
    write_sea(tmp_path, tags={})
    with pytest.raises(RequestError, match=mentions("no time", "a.tif", "rio edit-info", "--tag ACQUISITION_DATETIME")):
        prepare_scenes(tmp_path, tmp_path / "store", ais=ais, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "ais.csv"]
