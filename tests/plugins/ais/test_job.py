"""A match from the scene and the messages to the layers: with the detector, with
positions, and without the motion."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest

from rsft.errors import DataError, RequestError
from rsft.plugins.ais.choice_page import write_choice_page
from rsft.plugins.ais.displacement import Acquisition
from rsft.plugins.ais.job import (
    detect_objects,
    list_message_files,
    match_scene,
    search_area,
)
from rsft.plugins.ais.layers import write_match
from rsft.plugins.ais.match import AisOptions
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import open_scene
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff
from tests.plugins.ais.conftest import SHIPS

OPEN_SEA = CfarOptions(land="none")
LAYERS = ["matched", "no_ais", "ais_without_detection", "ambiguous", "shift"]

pytestmark = pytest.mark.slow


def test_detected_objects(traffic):
    match = match_scene(traffic.scene, [traffic.ais], detector=OPEN_SEA)
    assert match.counts == {
        "matched": 3,
        "ambiguous": 0,
        "no AIS": 1,
        "AIS without detection": 1,
    }
    matched = match.objects[match.objects["status"] == "matched"].set_index("mmsi")
    for mmsi, (row, col) in traffic.places.items():
        assert matched.loc[mmsi, ["row", "col"]].tolist() == pytest.approx(
            [row, col], abs=1.5
        )
        assert (
            matched.loc[mmsi, "distance_m"] < 20
            and matched.loc[mmsi, "confidence"] > 0.95
        )
    assert matched.loc[list(SHIPS), "ais_class"].tolist() == [
        "fishing",
        "cargo",
        "tanker",
    ]
    assert matched.loc[219000002, "shift_m"] == pytest.approx(
        10 * (traffic.places[219000002][0] - 350), abs=2
    )
    assert matched.loc[
        219000001, ["ais_length_m", "ais_width_m", "ship_name"]
    ].tolist() == [120, 40, "SHIP 1"]
    (lone,) = match.objects[match.objects["status"] == "no AIS"].itertuples()
    assert lone.reason == "no ship of AIS is near" and np.isnan(lone.confidence)
    lost = match.ships[match.ships["status"] == "no detection"]
    assert lost["mmsi"].tolist() == [219000009]
    assert any("azimuth times of the lines" in note for note in match.notes)


def test_positions_and_a_time_without_motion(traffic):
    """Without the motion of the radar, the fast ship is 370 m from its object, and less
    sure than the one at anchor."""
    positions = traffic.ais.with_name("at.csv")
    rows = "".join(f"{row},{col},{120}\n" for row, col in traffic.places.values())
    positions.write_text("row,col,length_m\n" + rows)
    options = AisOptions(time="2021-01-19T03:16:54Z", min_confidence=0.5)
    match = match_scene(traffic.scene, [traffic.ais], options, at=positions)
    assert match.objects["mmsi"].tolist() == list(SHIPS)
    assert match.objects["length_m"].tolist() == [120] * 3
    assert match.objects["distance_m"].tolist()[1] == pytest.approx(
        10 * (350 - traffic.places[219000002][0]), abs=5
    )
    assert (
        any("are not shifted" in note for note in match.notes)
        and (match.ships["shift_m"] == 0).all()
    )


def test_uncertain_pairs_are_set_aside(traffic):
    """Two objects, and one ship in the middle between them: neither gets it, and both
    say so."""
    row, col = traffic.places[219000001]
    positions = traffic.ais.with_name("at.csv")
    positions.write_text(f"row,col\n{row},{col - 2}\n{row},{col + 2}\n")
    match = match_scene(traffic.scene, [traffic.ais], at=positions)
    assert match.objects["status"].tolist() == ["ambiguous", "ambiguous"]
    assert all("219000001 at" in text for text in match.objects["candidates"])
    assert sum("another object" in text for text in match.objects["reason"]) == 2
    assert match.ships.set_index("mmsi").loc[219000001, "status"] == "ambiguous"
    assert match.counts["ambiguous"] == 2 and match.counts["AIS without detection"] == 3


def ambiguous_match(traffic, **options):
    """Match two objects to one ship in the middle between them, and a third object to
    the ship at its place."""
    row, col = traffic.places[219000001]
    other = traffic.places[219000003]
    positions = traffic.ais.with_name("at.csv")
    positions.write_text(
        f"row,col\n{row},{col - 2}\n{row},{col + 2}\n{other[0]},{other[1]}\n"
    )
    return match_scene(
        traffic.scene, [traffic.ais], AisOptions(**options), at=positions
    )


def saved(folder, page, *choices):
    """Save choices (chip, class, verdict) as the page does, with the row and column
    that the page has."""
    data = json.loads(
        re.search(
            r'<script id="data" type="application/json">(.*?)</script>',
            page.read_text(),
        )[1]
    )
    chips = {chip["chip"]: chip for chip in data["chips"]}
    lines = [
        f'"","{label}","{verdict}",{chips[name]["row"]},{chips[name]["col"]},"{name}"'
        for name, label, verdict in choices
    ]
    path = folder / "corrected.csv"
    path.write_text("\r\n".join(["path,class,verdict,row,col,chip", *lines]))
    return path, data


def test_a_reviewer_chooses_the_ships_of_ambiguous_objects(traffic, tmp_path):
    match = ambiguous_match(traffic)
    assert match.objects["status"].tolist() == ["ambiguous", "ambiguous", "matched"]
    page = tmp_path / "page.html"
    assert write_choice_page(match, page, "rsft ais match x")
    first, second, _ = match.objects["object"]
    ship = "219000001 fishing 120 m SHIP 1"
    choices, data = saved(
        tmp_path, page, (first, ship, "class"), (second, "no AIS", "class")
    )
    assert [kind["name"] for kind in data["classes"]] == [ship, "no AIS"]
    chip = data["chips"][0]
    assert (
        chip["class"] == ship
        and "another object" in chip["attributes"]["reason"]
        and len(chip["all"]) == 2
    )
    assert (
        "rsft ais match x" in page.read_text()
        and "rsft data add" not in page.read_text()
    )
    reviewed = ambiguous_match(traffic, review=choices)
    assert reviewed.objects["status"].tolist() == ["matched", "no AIS", "matched"]
    assert (
        reviewed.objects["confidence"].tolist()[0] == 1
        and reviewed.objects["mmsi"].tolist()[0] == 219000001
    )
    assert reviewed.objects["reason"].tolist()[:2] == ["chosen in the review"] * 2
    assert "ships chosen in the review: 2 objects" in reviewed.notes
    none, _ = saved(tmp_path, page, (first, "", "not a target"), (second, "", "unsure"))
    reviewed = ambiguous_match(
        traffic, review=none
    )  # the other object is the only one for the ship
    assert reviewed.objects["status"].tolist() == ["no AIS", "matched", "matched"]
    assert (
        not write_choice_page(reviewed, tmp_path / "none.html", "rsft")
        and not (tmp_path / "none.html").exists()
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("219000001", "219000003", "219000003 is no candidate"),
        ("219000001", "ship", "is no ship"),
        ("no AIS", "219000001", "chosen for two objects"),
        ("_0000", "_9000", "not at the same place"),
        (",chip", ",name", "row without a chip"),
    ],
)
def test_choices_that_cannot_be_used(traffic, tmp_path, old, new, message):
    match = ambiguous_match(traffic)
    page = tmp_path / "page.html"
    write_choice_page(match, page, "rsft")
    first, second, _ = match.objects["object"]
    path, _ = saved(
        tmp_path,
        page,
        (first, "219000001 fishing", "class"),
        (second, "no AIS", "class"),
    )
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RequestError, match=message) as caught:
        ambiguous_match(traffic, review=path)
    assert caught.value.location == str(path) and caught.value.hint


def test_matched_objects_become_training_chips(traffic, tmp_path):
    """The layer of matched objects, after a review, is a file of labels."""
    write_match(
        ambiguous_match(traffic, min_confidence=0.5), tmp_path / "matches.gpkg", {}
    )
    options = {
        "layer": "matched",
        "field": "ais_class",
        "size": "32",
        "split": "object",
        "jobs": 1,
    }
    store = prepare(
        traffic.scene,
        tmp_path / "store",
        at=tmp_path / "matches.gpkg",
        val=0.5,
        **options,
    )
    assert sorted(zip(store.table["class"], store.table["mmsi"], strict=True)) == [
        ("fishing", "219000001"),
        ("tanker", "219000003"),
    ]


def test_layers(traffic, tmp_path):
    match = match_scene(traffic.scene, [traffic.ais], detector=OPEN_SEA)
    path = tmp_path / "matches.gpkg"
    write_match(match, path, {"scene": "x"})
    counts = {name: pyogrio.read_info(path, name)["features"] for name in LAYERS}
    assert counts == dict(zip(LAYERS, (3, 1, 1, 0, 2), strict=True))
    (arrow,) = pyogrio.read_dataframe(
        path, "shift", where="mmsi = 219000002"
    ).itertuples()
    (lon0, lat0), (_, lat1) = arrow.geometry.coords
    assert (lon0, lat0) == pytest.approx((arrow.lon, arrow.lat)) and lat1 > lat0
    with closing(sqlite3.connect(path)) as database:
        styles = dict(
            database.execute("SELECT f_table_name, styleQML FROM layer_styles")
        )
        metadata = dict(database.execute("SELECT key, value FROM rsft_metadata"))
    assert sorted(styles) == sorted(LAYERS)
    for name, style in styles.items():
        root = ElementTree.fromstring(style.partition("\n")[2])
        assert root.find("renderer-v2/categories") is not None, name
    assert {"cargo", "tanker", "fishing"} <= {
        x.get("label")
        for x in ElementTree.fromstring(styles["matched"].partition("\n")[2]).iter(
            "category"
        )
    }
    assert json.loads(metadata["counts"])["matched"] == 3
    with pytest.raises(RequestError, match="exists already"):
        write_match(match, path, {})
    with pytest.raises(RequestError, match=r"must be a \.gpkg file"):
        write_match(match, tmp_path / "x.csv", {})


def test_a_match_without_ships_has_all_layers(traffic, tmp_path):
    positions = traffic.ais.with_name("at.csv")
    positions.write_text("row,col\n60,500\n")
    match = match_scene(traffic.scene, [traffic.ais], at=positions)
    path = tmp_path / "matches.gpkg"
    write_match(match, path, {})
    assert [pyogrio.read_info(path, name)["features"] for name in LAYERS] == [
        0,
        1,
        4,
        0,
        2,
    ]


@pytest.mark.realdata
def test_the_pairs_of_opensarship(shared):
    """No object gets a wrong ship, and most pairs come back; centers of chips are off
    by up to 300 m in one scene."""
    from tools.reproduction.opensarship_pairs import match_folder

    folders = sorted(path.parent for path in shared("opensarship").glob("*/Ship.xml"))
    totals = sum(
        (match_folder(folder, 100.0, with_shift=True) for folder in folders), Counter()
    )
    assert (totals["pairs"], totals["wrong"]) == (187, 0) and totals["right"] >= 175


@pytest.mark.realdata
def test_the_shift_of_ships_in_opensarship(shared):
    """49 moving ships of a scene lie where -R v_r / V puts them along the flight
    direction, not where AIS has them."""
    from tools.reproduction.opensarship_pairs import measure_shifts

    measured, expected = measure_shifts(
        next(shared("opensarship").glob("*20160131T101646*"))
    ).T
    slope, offset = np.polyfit(expected, measured, 1)
    assert len(measured) == 49 and np.corrcoef(measured, expected)[0, 1] > 0.97
    assert slope == pytest.approx(1, abs=0.1) and abs(offset) < 50


def test_bad_requests(traffic):
    with pytest.raises(RequestError, match=r"not between 0\.5 and 1"):
        AisOptions(min_confidence=1.0)
    with pytest.raises(RequestError, match="error of positions"):
        AisOptions(position_sigma=0)
    with pytest.raises(RequestError) as caught:
        match_scene(
            traffic.scene,
            [traffic.ais],
            AisOptions(time="2021-01-20T03:16:54Z"),
            detector=OPEN_SEA,
        )
    assert (
        "2021-01-20 02:46:54 UTC" in caught.value.message
        and "2021-01-19 03:15:13 UTC" in caught.value.message
    )
    with pytest.raises(DataError):
        match_scene(traffic.ais, [traffic.ais])


def sea_with_ships(path):
    """Write a scene of float32 intensities with two ships, and return it."""
    intensity = simulate_sea(300, 300) ** 2
    intensity[100:108, 60:64] = intensity[200:204, 220:230] = 100
    return open_scene(write_geotiff(path, intensity, crs="EPSG:32633", transform=UTM))


def test_pixels_without_a_unit_are_searched_as_they_are_stored(tmp_path):
    scene = sea_with_ships(tmp_path / "s.tif")
    stored = detect_objects(scene, OPEN_SEA, UNDECLARED, None)
    declared = detect_objects(scene, OPEN_SEA, Declaration("sigma0"), None)
    assert len(stored.locations) == 2 and stored.locations == declared.locations
    assert (
        "s.tif declares no unit" in stored.notes[0] and "--unit db" in stored.notes[0]
    )
    assert not any("no unit" in note for note in declared.notes)


def test_decibels_without_a_declaration_are_not_searched_as_linear_values(tmp_path):
    decibels = 20 * np.log10(simulate_sea(300, 300)) - 15
    scene = open_scene(
        write_geotiff(tmp_path / "s.tif", decibels, crs="EPSG:32633", transform=UTM)
    )
    with pytest.raises(DataError, match="sigma0") as error:
        detect_objects(scene, OPEN_SEA, UNDECLARED, None)
    assert "model" not in str(error.value)
    assert detect_objects(scene, OPEN_SEA, Declaration("db"), None).notes


def test_two_bands_without_names_are_asked_for(tmp_path):
    path = tmp_path / "s.tif"
    pixels = np.stack([simulate_sea(300, 300) ** 2] * 2)
    scene = open_scene(write_geotiff(path, pixels, crs="EPSG:32633", transform=UTM))
    with pytest.raises(RequestError, match="2 bands without names") as error:
        detect_objects(scene, OPEN_SEA, Declaration("sigma0"), None)
    assert "--bands VV,VH" in error.value.hint and "model" not in str(error.value)
    declared = detect_objects(
        scene, OPEN_SEA, Declaration("sigma0", ("VV", "VH")), None
    )
    assert not any("no unit" in note for note in declared.notes)


def test_the_search_area_contains_ships_that_enter(traffic):
    scene = open_scene(traffic.scene)
    area = search_area(scene, Acquisition.of(scene))
    assert (area.lon, area.lat) == pytest.approx((15.04, 45.12), abs=0.02)
    assert (
        area.half_height == pytest.approx(0.25 + 0.029, abs=0.01)
        and area.half_width > area.half_height
    )
    assert area.end - area.start == pytest.approx(3600 + 1.5e-3 * 639, abs=1e-3)


def test_a_folder_of_messages(tmp_path):
    with pytest.raises(RequestError, match="the folder contains no messages"):
        list_message_files(tmp_path)
    for name in ("b.csv", "a.parquet", "readme.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in list_message_files(tmp_path)] == [
        "a.parquet",
        "b.csv",
    ]
    assert list_message_files(tmp_path / "b.csv") == [tmp_path / "b.csv"]
