"""A match from the scene and the messages to the layers: with the detector, with
positions, and without the motion."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rsft.errors import DataError, RequestError
from rsft.plugins.ais.displacement import Acquisition
from rsft.plugins.ais.job import (
    detect_objects,
    list_message_files,
    match_scene,
    search_area,
)
from rsft.plugins.ais.match import AisOptions
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff
from tests.plugins.ais.conftest import SHIPS

OPEN_SEA = CfarOptions(land="none")

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
