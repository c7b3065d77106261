"""`rsft.detect` returns the table that `rsft detect` writes."""

import geopandas
import pandas as pd
import pytest
import rasterio

import rsft as package
from rsft.errors import RequestError
from tests.helpers.scenes import SHIPS, write_sea
from tests.helpers.style import ROOT


def test_the_table_is_that_of_the_command(rsft, tmp_path):
    scene = write_sea(tmp_path / "scene.tif")
    code, text = rsft("detect", scene, "-o", "objects.parquet")
    assert code == 0, text
    table = package.detect(scene)
    written = geopandas.read_parquet(tmp_path / "objects.parquet")
    assert table.crs == written.crs
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(written))
    places = zip(table["row"].round(), table["col"].round(), strict=True)
    assert sorted(places) == sorted(SHIPS)
    assert any("3 bright objects" in note for note in table.attrs["notes"])
    with rasterio.open(scene) as dataset:
        assert package.detect(dataset).equals(table)
    assert not list(tmp_path.glob("*.gpkg"))


def test_the_table_says_where_to_classify(tmp_path):
    scene = write_sea(tmp_path / "scene.tif")
    objects = package.detect(scene, size=48, chips=tmp_path / "chips")
    assert len(list((tmp_path / "chips").iterdir())) == 3
    run = ROOT / "tests/compat/0.2/run"
    table = package.predict_scene(run, scene, at=objects.head(2))
    assert len(table) == 2 and set(table["class"]) <= {"cargo", "fishing", "tanker"}


def test_a_bare_scene_needs_a_spacing(tmp_path):
    scene = write_sea(tmp_path / "bare.tif", transform=None)
    with pytest.raises(RequestError, match="give `spacing` in meters"):
        package.detect(scene)
    table = package.detect(scene, spacing=10)
    assert table.crs is None and len(table) == 3
    with pytest.raises(RequestError, match="is no scene"):
        package.detect(table)
