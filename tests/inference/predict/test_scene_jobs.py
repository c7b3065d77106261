"""The prediction job on tiles and positions of scenes, with a toy model that classifies
by brightness."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import geopandas
import geoparquet_validator
import numpy as np
import pandas as pd
import pyogrio
import pytest
from pyproj import Transformer

from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.inference.writers.columns import table_columns
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.files import written
from tests.helpers.messages import mentions
from tests.helpers.scenes import (
    UTM,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tests.inference.predict.scene_requests import request_at, ships_layer


def test_tiles_of_a_scene(bundle, scene, tmp_path):
    result = predict(
        bundle,
        [scene],
        tmp_path / "out.gpkg",
        PredictionRequest(query=Query(grid=16), batch_size=7),
    )
    assert (
        len(result.table) == 31
        and "tiles without data were left out: 1" in result.notes
    )
    assert ((result.table["col"] > 64) == (result.table["class"] == "bright")).all()
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions").to_crs(
        32633
    )
    assert frame.geometry.area.to_numpy() == pytest.approx(160**2, rel=1e-3)
    assert "length_m" not in frame


def test_positions_in_a_scene(bundle, scene, tmp_path):
    at = written(tmp_path / "at.csv", "row,col\n20,30\n20,100\n20,1000\n,\n")
    request = request_at(at, chips_dir=tmp_path / "cut")
    result = predict(bundle, [scene], tmp_path / "out.parquet", request)
    assert result.table["class"].tolist() == ["dark", "bright"] and result.table[
        "at"
    ].tolist() == [2, 3]
    assert result.table["path"].tolist() == [
        str(tmp_path / f"cut/s_{number:06d}.tif") for number in (2, 3)
    ]
    assert result.rejected == [(Path(f"{at}:5"), "no position")]
    assert result.notes[:2] == [
        "georeference of s.tif: geotransform, EPSG:32633",
        "positions outside of s.tif: 1 of 3",
    ]
    again = predict(bundle, [tmp_path / "cut"], tmp_path / "again.csv")
    assert again.table["p_dark"].tolist() == result.table["p_dark"].tolist()


def test_scenes_without_georeference(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (16, 16), np.uint8)
    paths = [write_geotiff(tmp_path / f"{name}.tif", pixels) for name in "ab"]
    result = predict(
        bundle,
        paths,
        tmp_path / "out.gpkg",
        PredictionRequest(query=Query(grid=8)),
    )
    assert result.table["scene"].value_counts().tolist() == [4, 4]
    assert result.table["geometry"][0].bounds == (0, -8, 8, 0)
    assert result.notes[0] == "a.tif has no georeference: coordinates are in pixels"
    result = predict(
        bundle,
        paths,
        tmp_path / "out.geojson",
        PredictionRequest(query=Query(grid=8)),
    )
    assert (
        "the table has no geometry: GeoJSON needs degrees; .gpkg also takes pixel"
        " coordinates" in result.notes
    )
    with pytest.raises(RequestError, match=mentions("two scenes", "name a")):
        predict(
            bundle,
            [paths[0], paths[0]],
            tmp_path / "c.csv",
            PredictionRequest(query=Query(grid=8)),
        )


AT_SHIPS = {
    "at": [3, 4, 6],
    "mmsi": [211, 212, None],
    "at_class": ["tug", None, "ferry"],
    "nothing": [None] * 3,
}


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "csv"])
def test_positions_keep_their_identity(bundle, scene, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    request = request_at(ships_layer(tmp_path / "ships.gpkg"), batch_size=2)
    table = predict(bundle, [scene], out, request).table.sort_values("at")
    assert (
        list(table)[-6:]
        == ["at", "mmsi", "at_class", "built", "towing", "nothing", "geometry"][-6:]
    )
    assert table["class"].tolist() == ["dark", "bright", "dark"] and table[
        "at"
    ].tolist() == [3, 4, 6]
    if suffix == "csv":
        stored = pd.read_csv(out, dtype={"mmsi": "Int64"})
    elif suffix == "parquet":
        stored = geopandas.read_parquet(out)
        report = geoparquet_validator.check(str(out))
        assert report["version"] == "1.1.0" and geoparquet_validator.conformant(
            report, "core"
        )
        assert geoparquet_validator.conformant(report, "covering")
    else:
        stored = pyogrio.read_dataframe(out, use_arrow=True)
    stored = stored.sort_values("at")
    values = stored[[*AT_SHIPS]].astype(object)
    assert values.where(values.notna(), None).to_dict("list") == AT_SHIPS
    assert (
        str(stored["built"].iloc[0])[:10] == "1999-05-01"
        and stored["built"].iloc[1:].isna().all()
    )
    assert stored["towing"].iloc[[0, 2]].tolist() == [True, False]
    if suffix == "gpkg":
        info = pyogrio.read_info(out, layer="predictions")
        types = dict(zip(info["fields"], info["ogr_types"], strict=True))
        assert [types[name] for name in ("at", "mmsi", "built")] == [
            "OFTInteger64",
            "OFTInteger64",
            "OFTDate",
        ]
        assert (
            dict(zip(info["fields"], info["ogr_subtypes"], strict=True))["towing"]
            == "OFSTBoolean"
        )


def test_text_ids_stay_text(bundle, scene, tmp_path):
    lonlat = Transformer.from_crs(32633, 4326, always_xy=True).transform(
        *(UTM @ (30, 20))
    )
    point = {"type": "Point", "coordinates": lonlat}
    feature = {
        "type": "Feature",
        "id": "007",
        "geometry": point,
        "properties": {"FID": 5},
    }
    at = written(
        tmp_path / "a.geojson",
        json.dumps({"type": "FeatureCollection", "features": [feature]}),
    )
    predict(bundle, [scene], tmp_path / "out.gpkg", request_at(at))
    stored = pyogrio.read_dataframe(
        tmp_path / "out.gpkg", layer="predictions", fid_as_index=True
    )
    assert stored["at"].tolist() == ["007"] and stored["at_FID"].tolist() == [5]


def test_positions_of_several_scenes(bundle, scene, tmp_path):
    other = Path(shutil.copy(scene, tmp_path / "t.tif"))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/s.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "labels/t.txt").write_text("gsd:1\n20 10 60 10 60 30 20 30 ship 0\n")
    request = request_at(
        tmp_path / "labels", chip_options=ChipOptions(size=ChipSize(margin=2))
    )
    table = predict(bundle, [scene, other], tmp_path / "out.gpkg", request).table
    assert table[["scene", "at", "at_class"]].to_numpy().tolist() == [
        ["s.tif", 1, "0"],
        ["t.tif", 2, "ship"],
    ]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "parquet", "csv"])
@pytest.mark.parametrize("query", ["at", "grid", "detect"])
def test_job_without_rows_writes_an_empty_layer(bundle, tmp_path, suffix, query):
    pixels = np.full((64, 128), 0 if query == "grid" else 9, np.uint8)
    scene = write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)
    queries = {
        "at": (Query(at=written(tmp_path / "at.csv", "row,col,mmsi\n")), 16),
        "grid": (Query(grid=16), None),
        "detect": (Query(detect=CfarOptions()), 16),
    }
    scene_query, side = queries[query]
    out = tmp_path / f"out.{suffix}"
    request = PredictionRequest(
        scene_query, chip_options=ChipOptions(size=ChipSize(side))
    )
    result = predict(bundle, [scene], out, request)
    assert "the table has no rows" in result.notes[0]
    assert result.counts == {"dark": 0, "bright": 0} and result.table.empty
    columns = list(table_columns(["dark", "bright"]))[:-1]
    columns += ["mmsi"] if query == "at" else []
    if suffix == "geojson":
        assert json.loads(out.read_text())["features"] == []
        return
    if suffix == "gpkg":
        stored = pyogrio.read_dataframe(out, layer="predictions")
        info = pyogrio.read_info(out, layer="predictions")
        assert (
            info["geometry_type"] == ("Point" if query == "at" else "Polygon")
            and info["crs"] == "EPSG:4326"
        )
        columns.insert(columns.index("class") + 1, "corrected")
        assert (
            list(stored) == [*columns, "geometry"]
            and "layer_styles" in pyogrio.list_layers(out)[:, 0]
        )
    else:
        stored = pd.read_csv(out) if suffix == "csv" else geopandas.read_parquet(out)
        assert list(stored) == [*columns, "wkt" if suffix == "csv" else "geometry"]
    assert stored.empty
    assert any("QGIS opens .parquet" in note for note in result.notes) == (
        suffix == "parquet"
    )


def test_positions_that_all_lie_outside_are_an_error(bundle, scene, tmp_path):
    request = request_at(written(tmp_path / "at.csv", "row,col\n2000,30\n20,-9\n,\n"))
    other = Path(shutil.copy(scene, tmp_path / "t.tif"))
    out = tmp_path / "o.gpkg"
    with pytest.raises(
        DataError, match=mentions("none", "2 positions", "in the scenes")
    ) as caught:
        predict(bundle, [scene], out, request)
    assert (
        "positions outside of s.tif: 2 of 2; check the coordinate system"
        in str(caught.value)
        and not out.exists()
    )
    with pytest.raises(
        DataError, match=mentions("none", "2 positions", "in the scenes")
    ):
        predict(bundle, [scene, other], out, request)
    request = replace(request, html_path=tmp_path / "page.html")
    result = predict(bundle, [scene], out, request, may_be_outside=True)
    assert result.table.empty and "the table has no rows" in result.notes[0]
    assert "0 chips." in (tmp_path / "page.html").read_text()
    (tmp_path / "at.csv").write_text("row,col\n,\na,b\n")
    with pytest.raises(DataError, match="none of the 2 chips can be used"):
        predict(bundle, [scene], tmp_path / "o.csv", replace(request, html_path=None))


def test_a_corrected_table_is_never_replaced(bundle, scene, tmp_path):
    out = tmp_path / "o.geojson"
    request = request_at(written(tmp_path / "at.csv", "row,col\n20,30\n"))
    predict(bundle, [scene], out, request)
    content = json.loads(out.read_text())
    content["features"][0]["properties"]["corrected"] = "dark"
    out.write_text(json.dumps(content))
    with pytest.raises(
        RequestError, match=mentions("rsft data add", "delete the file")
    ):
        predict(bundle, [scene], out, replace(request, overwrite=True))
    out.unlink()
    predict(bundle, [scene], out, replace(request, overwrite=True))
    assert json.loads(out.read_text())["features"][0]["properties"]["corrected"] is None


def test_review_page_shows_attributes(bundle, scene, tmp_path):
    request = request_at(
        ships_layer(tmp_path / "ships.gpkg"), html_path=tmp_path / "page.html"
    )
    predict(bundle, [scene], tmp_path / "out.gpkg", request)
    text = (tmp_path / "page.html").read_text()
    data = json.loads(
        text.partition('<script id="data" type="application/json">')[2].partition(
            "</script>"
        )[0]
    )
    shown = {chip["attributes"]["at"]: chip["attributes"] for chip in data["chips"]}
    assert shown[3] == {
        "at": 3,
        "mmsi": 211,
        "at_class": "tug",
        "built": "1999-05-01",
        "towing": True,
    }
    assert shown[6] == {"at": 6, "at_class": "ferry", "towing": False}


def test_tiles_of_another_size_than_the_crop(bundle, scene, tmp_path, monkeypatch):
    use_toy_model(monkeypatch, toy_bundle(contract=toy_contract(crop=32)))
    with pytest.raises(RequestError, match=mentions("16 pixels", "middle 32 pixels")):
        predict(
            bundle,
            [scene],
            tmp_path / "out.csv",
            PredictionRequest(query=Query(grid=16)),
        )
