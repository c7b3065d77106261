"""Training chips with the classes of AIS: scenes without messages, interrupted builds,
and declared units."""

from __future__ import annotations

import pytest

from rsft.data.chips import builder
from rsft.data.chips.store import read_dataset
from rsft.errors import RequestError
from rsft.plugins.ais import job as ais_job
from rsft.scenes import detection
from rsft.scenes.locations import SceneLocations
from rsft.scenes.options import Declaration
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff

OPTIONS = {"land": "none", "split": "object", "val": 0.3, "jobs": 1}


def write_sea(folder, name="a.tif", east=0, day="2021-01-19", **options):
    """Write a scene in sigma0 without ships, of the time of the traffic or another
    day."""
    transform = UTM * UTM.translation(east, 0)
    tags = {"ACQUISITION_DATETIME": f"{day}T03:16:53Z"}
    profile = {
        "crs": "EPSG:32633",
        "transform": transform,
        "names": ("VV",),
        "units": ("sigma0",),
        "tags": tags,
    }
    return write_geotiff(
        folder / name, simulate_sea(200, 200) ** 2, **(profile | options)
    )


@pytest.mark.slow
def test_scenes_without_messages_are_left_out_and_named(traffic, tmp_path, monkeypatch):
    write_sea(tmp_path, "far.tif", east=50_000)
    write_sea(tmp_path, "later.tif", day="2021-02-19")
    searched = []
    detect = detection.detect_objects
    monkeypatch.setattr(
        detection,
        "detect_objects",
        lambda scene, *x: searched.append(scene.name) or detect(scene, *x),
    )
    store = prepare(tmp_path, tmp_path / "store", ais=traffic.ais, **OPTIONS)
    assert sorted(store.table["class"]) == ["cargo", "fishing", "tanker"]
    assert store.skipped["scene without AIS messages"] == 2 and searched == [
        traffic.scene.stem
    ]
    notes = [
        note for note in read_dataset(store.root)["notes"] if "is left out" in note
    ]
    assert [note.partition(": ")[0] for note in notes] == [
        "far.tif is left out",
        "later.tif is left out",
    ]
    assert (
        "no AIS position lies near the scene" in notes[0]
        and "2021-02-19 02:46:53 UTC" in notes[1]
    )


def test_no_scene_with_messages_is_an_error(tmp_path):
    ais = tmp_path / "ais.csv"
    ais.write_text(
        "MMSI,BaseDateTime,LAT,LON\n219000001,2021-01-19T03:16:00Z,45.15,15.01\n"
    )
    write_sea(tmp_path, "far.tif", east=50_000)
    write_sea(tmp_path, "later.tif", day="2021-02-19")
    with pytest.raises(
        RequestError,
        match=mentions("in 2 scenes", "ais.csv", "far.tif is left out"),
    ):
        prepare(tmp_path, tmp_path / "store", ais=ais, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ais.csv",
        "far.tif",
        "later.tif",
    ]


def test_a_scene_without_time_is_named_with_the_command_that_stores_it(tmp_path):
    ais = tmp_path / "ais.csv"
    ais.write_text(
        "MMSI,BaseDateTime,LAT,LON\n219000001,2021-01-19T03:16:00Z,45.15,15.01\n"
    )
    write_sea(tmp_path, tags={})
    with pytest.raises(
        RequestError,
        match=mentions(
            "no time", "a.tif", "rio edit-info", "--tag ACQUISITION_DATETIME"
        ),
    ):
        prepare(tmp_path, tmp_path / "store", ais=ais, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "ais.csv"]


@pytest.mark.slow
def test_a_stopped_build_does_not_detect_again(traffic, tmp_path, monkeypatch):
    detected = []
    detect = detection.detect_objects
    build = builder.build_store
    monkeypatch.setattr(
        detection,
        "detect_objects",
        lambda scene, *x: detected.append(scene.name) or detect(scene, *x),
    )

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(builder, "build_store", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(traffic.scene, tmp_path / "store", ais=traffic.ais, **OPTIONS)
    # other options for the chips keep the detection
    with pytest.raises(RequestError, match="cannot be divided"):
        prepare(
            traffic.scene,
            tmp_path / "store",
            ais=traffic.ais,
            **(OPTIONS | {"split": "scene"}),
        )
    assert len(detected) == 1 and (tmp_path / ".store.journal").is_file()
    monkeypatch.setattr(builder, "build_store", build)
    store = prepare(traffic.scene, tmp_path / "store", ais=traffic.ais, **OPTIONS)
    assert (
        len(detected) == 1
        and len(store.table) == 3
        and not (tmp_path / ".store.journal").exists()
    )
    expected = prepare(traffic.scene, tmp_path / "expected", ais=traffic.ais, **OPTIONS)
    assert len(detected) == 2 and expected.table.equals(store.table)
    (tmp_path / ".store.journal").touch()
    prepare(traffic.scene, tmp_path / "store", ais=traffic.ais, **OPTIONS)
    assert not (tmp_path / ".store.journal").exists()


@pytest.mark.slow
def test_other_options_of_the_detector_detect_again(traffic, tmp_path, monkeypatch):
    detected = []
    detect = detection.detect_objects
    monkeypatch.setattr(
        detection,
        "detect_objects",
        lambda scene, *x: detected.append(x[0].land) or detect(scene, *x),
    )
    monkeypatch.setattr(builder, "build_store", lambda *x, **options: 1 / 0)
    for land in ("none", "brightness", "brightness"):
        with pytest.raises(ZeroDivisionError):
            prepare(
                traffic.scene,
                tmp_path / "store",
                ais=traffic.ais,
                **(OPTIONS | {"land": land}),
            )
    assert detected == ["none", "brightness"]


@pytest.mark.slow
def test_the_declared_unit_reaches_the_detector(traffic, tmp_path, monkeypatch):
    """A calibrated product is searched as it is stored, or in the unit that is
    declared; a wrong one is refused."""
    units = []

    def search(scene, *arguments):
        units.append((scene.unit, scene.dtype))
        return SceneLocations()

    monkeypatch.setattr(detection, "detect_bright_objects", search)
    for unit in (None, "sigma0", "gamma0"):
        match = ais_job.match_scene(
            traffic.scene, [traffic.ais], declaration=Declaration(unit)
        )
        assert match.counts["AIS without detection"] == 4
        with pytest.raises(RequestError, match="no label can be used"):
            prepare(
                traffic.scene, tmp_path / "store", ais=traffic.ais, unit=unit, **OPTIONS
            )
    stored = (open_scene(traffic.scene).unit, "uint16")
    assert (
        units
        == [stored] * 2 + [("sigma0", "float32")] * 2 + [("gamma0", "float32")] * 2
    )
    refused = mentions("--unit db", traffic.scene.name, "by its calibration")
    with pytest.raises(RequestError, match=refused):
        prepare(
            traffic.scene, tmp_path / "store", ais=traffic.ais, unit="db", **OPTIONS
        )
    with pytest.raises(RequestError, match=refused):
        ais_job.match_scene(traffic.scene, [traffic.ais], declaration=Declaration("db"))
    assert not (tmp_path / "store").exists() and len(units) == 6
    monkeypatch.undo()
    match = ais_job.match_scene(write_sea(tmp_path, units=(None,)), [traffic.ais])
    assert any("a.tif declares no unit" in note for note in match.notes)


@pytest.mark.slow
def test_classes_of_ships_by_ais(traffic, tmp_path):
    """Of four detected objects three belong to a ship: they get its class and its
    MMSI."""
    store = prepare(
        traffic.scene,
        tmp_path / "store",
        ais=traffic.ais,
        land="none",
        split="object",
        val=0.3,
        jobs=1,
    )
    rows = store.table.set_index("mmsi")
    assert rows["class"].to_dict() == {
        "219000001": "fishing",
        "219000002": "cargo",
        "219000003": "tanker",
    }
    assert (rows["ais_confidence"] > 0.9).all() and set(rows["unit"]) == {"sigma0"}
    assert store.skipped["detected object, no AIS"] == 1
    for mmsi, (row, col) in traffic.places.items():
        assert rows.loc[str(mmsi), ["row", "col"]].tolist() == pytest.approx(
            [row, col], abs=1.5
        )
