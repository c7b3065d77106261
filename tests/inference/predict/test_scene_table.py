"""`rsft.predict_scene` returns the table that `rsft predict` writes."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio

import rsft
from rsft.errors import DataError, RequestError
from tests.helpers.scenes import SHIPS, UTM, write_geotiff, write_sea
from tests.helpers.style import ROOT

RUN = ROOT / "tests/compat/0.2/run"


@pytest.fixture
def scene(tmp_path):
    return write_sea(tmp_path / "scene.tif")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--detect"], {"detect": True}),
        (["--grid", "48", "--stride", "240"], {"grid": 48, "stride": 240}),
        (
            ["--detect", "--size", "60", "--pfa", "1e-5", "--land", "none"],
            {"detect": True, "size": 60, "pfa": 1e-5, "land": "none"},
        ),
    ],
)
def test_the_table_is_that_of_the_command(
    request, scene, model, tmp_path, options, arguments
):
    table = rsft.predict_scene(model, scene, **arguments)
    command = request.getfixturevalue("rsft")
    code, text = command("predict", RUN, scene, "-o", "t.parquet", *options)
    assert code == 0, text
    written = geopandas.read_parquet(tmp_path / "t.parquet")
    assert table.crs == written.crs and len(table) > 0
    pd.testing.assert_frame_equal(
        pd.DataFrame(table), pd.DataFrame(written), check_dtype=False, rtol=1e-4
    )
    assert table.attrs["rejected"] == [] and table.attrs["notes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene.tif",
        "t.parquet",
    ]


def test_positions_are_a_table_or_a_file(model, scene, tmp_path):
    places = geopandas.GeoDataFrame(
        {"name": ["a", "b", "c"]},
        geometry=geopandas.points_from_xy(
            *zip(*(UTM @ (col, row) for row, col in SHIPS), strict=True)
        ),
        crs="EPSG:32633",
    )
    table = rsft.predict_scene(RUN, [scene], at=places)
    assert table["name"].tolist() == ["a", "b", "c"]
    places.to_file(tmp_path / "places.gpkg")
    from_file = rsft.predict_scene(model, scene, at=tmp_path / "places.gpkg")
    assert from_file["p_cargo"].tolist() == pytest.approx(table["p_cargo"].tolist())
    with rasterio.open(scene) as dataset:
        assert rsft.predict_scene(model, dataset, at=places).equals(table)
    far = places.translate(900_000)
    outside = places.set_geometry(far)
    with pytest.raises(DataError, match="none of the 3 positions"):
        rsft.predict_scene(model, scene, at=outside)


def test_a_scene_without_georeference_has_pixels(model, tmp_path):
    bare = write_sea(tmp_path / "bare.tif", transform=None)
    table = rsft.predict_scene(model, bare, detect=True, spacing=10)
    assert table.crs is None and len(table) == 3
    assert any("coordinates are in pixels" in note for note in table.attrs["notes"])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"detect": True, "grid": 48},
        {"stride": 4},
        {"crs": "EPSG:4326", "grid": 48},
        {"grid": 40},
        {"detect": True, "pfa": 2},
        {"detect": True, "size": "box"},
        {"detect": True, "size": "x"},
        {"detect": True, "unit": "x"},
        {"detect": True, "read": ["x"]},
        {"detect": True, "bands": ["VV", "VH"]},
        {"at": "missing.gpkg"},
    ],
)
def test_faults_name_arguments(model, scene, arguments):
    with pytest.raises((RequestError, DataError)) as error:
        rsft.predict_scene(model, scene, **arguments)
    assert "--" not in str(error.value)


def test_objects_that_cannot_be_classified_are_told(model, scene, tmp_path):
    places = geopandas.GeoDataFrame(
        geometry=geopandas.points_from_xy(*zip(*[UTM @ (250, 250)] * 2, strict=True)),
        crs="EPSG:32633",
    )
    empty = np.zeros((300, 300), np.uint16)
    path = write_geotiff(tmp_path / "e.tif", empty, crs="EPSG:32633", transform=UTM)
    with pytest.raises(DataError, match="none of the 2 chips can be used") as error:
        rsft.predict_scene(model, path, at=places)
    assert error.value.location == "" and "--" not in str(error.value)
    empty[:60] = np.arange(60)[:, None]
    places = places.set_geometry(
        geopandas.points_from_xy(*zip(UTM @ (30, 30), UTM @ (250, 250), strict=True))
    )
    write_geotiff(path, empty, crs="EPSG:32633", transform=UTM)
    table = rsft.predict_scene(model, path, at=places)
    assert len(table) == 1 and len(table.attrs["rejected"]) == 1
    assert "rejected: 1" in table.attrs["notes"]


def test_an_array_is_no_scene(model):
    with pytest.raises(RequestError, match="is no scene"):
        rsft.predict_scene(model, SHIPS, grid=48)
