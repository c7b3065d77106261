"""The prediction job on good and broken chips and on scenes, with a toy model that
classifies by brightness."""

import errno
import json
import os
import re
import shutil
import sqlite3
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import geopandas
import geoparquet_validator
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import pytest
import shapely
from pyproj import Transformer

from rsft.errors import DataError, NetworkError, RequestError, WeightsError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import result as result_module
from rsft.inference.predict.batch_journal import BatchJournal
from rsft.inference.predict.job import predict
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.file_server import serving_folder
from tests.helpers.files import written
from tests.helpers.geokeys import write_chip_with_damaged_geokey
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.messages import mentions
from tests.helpers.scenes import (
    UTM,
    brightness_calibrator,
    brightness_logits,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)


@pytest.fixture
def chips(tmp_path):
    folder = tmp_path / "chips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 60, (16, 16), np.uint8)
    bright = rng.integers(200, 256, (16, 16), np.uint8)
    cv2.imwrite(str(folder / "a_dark.png"), dark)
    write_geotiff(folder / "b_bright.tif", bright, crs="EPSG:32633", transform=UTM)
    cv2.imwrite(str(folder / "c_gray_as_rgb.png"), cv2.merge([bright] * 3))
    return folder


@pytest.fixture
def broken(chips):
    rng = np.random.default_rng(1)
    png = (chips / "a_dark.png").read_bytes()
    (chips / "d_cut.png").write_bytes(png[: len(png) // 2])
    (chips / "e_text.png").write_text("not an image")
    cv2.imwrite(str(chips / "f_black.png"), np.zeros((16, 16), np.uint8))
    cv2.imwrite(str(chips / "g_color.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    cv2.imwrite(str(chips / "h_deep.png"), rng.integers(0, 65536, (16, 16), np.uint16))
    write_chip_with_damaged_geokey(chips / "i_geokey.tif")
    (chips / "j_large.png").touch()
    os.truncate(chips / "j_large.png", 24 * 2**30)
    write_geotiff(
        chips / "k_inverted.tif",
        rng.integers(0, 256, (16, 16), np.uint8),
        photometric="miniswhite",
    )
    (chips / "notes.txt").touch()
    return chips


@pytest.fixture
def bundle(monkeypatch):
    use_toy_model(monkeypatch)
    return Path("bundle")


def test_good_and_broken_chips(bundle, broken, tmp_path):
    out = tmp_path / "out.csv"
    result = predict(bundle, [broken], out, PredictionRequest(batch_size=2))
    assert result.table["chip"].tolist() == [
        "a_dark.png",
        "b_bright.tif",
        "c_gray_as_rgb.png",
    ]
    assert result.table["class"].tolist() == ["dark", "bright", "bright"]
    assert result.table["class_2"].tolist() == ["bright", "dark", "dark"]
    assert (result.table[["p_dark", "p_bright"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert result.counts == {"dark": 1, "bright": 2}
    reasons = {path.name[0]: reason for path, reason in result.rejected}
    assert list(reasons) == ["d", "e", "f", "g", "h", "i", "j", "k"]
    assert (
        "3 bands, but the model takes 1 (HH)" in reasons["g"]
        and "--bands" in reasons["g"]
    )
    assert "uint16 pixels, but the model takes uint8" in reasons["h"]
    assert (
        "damaged" in reasons["i"]
        and "25,769,803,776 bytes" in reasons["j"]
        and "MINISWHITE" in reasons["k"]
    )
    assert pd.read_csv(out)["probability"].between(0.5, 1).all()
    listing = pd.read_csv(tmp_path / "out.rejected.csv")
    assert listing["file"].tolist() == [str(path) for path, _ in result.rejected]
    assert result.notes == [
        "chips without a usable georeference have no geometry: 2 of 3",
        "gray chips stored as RGB (only one band was used): 1",
        (
            "the bundle is not calibrated: probabilities are those of the network,"
            " without class_set and ood"
        ),
        "files in folders that are not images by their suffix: 1",
        f"rejected: 8, listed in {tmp_path / 'out.rejected.csv'}",
        "engine: torch fp32",
    ]
    assert not list(tmp_path.glob(".*"))


def test_no_usable_chip(bundle, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=mentions("none of the 1")):
        predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert (tmp_path / "out.rejected.csv").exists()
    assert not (tmp_path / "out.csv").exists()
    cv2.imwrite(str(tmp_path / "text.png"), np.eye(16, dtype=np.uint8))
    predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert not (tmp_path / "out.rejected.csv").exists()


@pytest.fixture
def whole_scene(tmp_path):
    """An image of 80 x 100 pixels, for a model whose inputs have 8 x 8."""
    pixels = np.random.default_rng(0).integers(200, 256, (80, 100), np.uint8)
    return write_geotiff(
        tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM
    )


def test_a_scene_is_not_one_chip(bundle, whole_scene, tmp_path):
    with pytest.raises(
        DataError, match=mentions("80 x 100", "scene, not a chip of 8 x 8")
    ) as error:
        predict(bundle, [whole_scene], tmp_path / "out.csv")
    assert error.value.location == str(whole_scene)
    for text in (
        "rsft predict RUN scene.tif",
        "--detect",
        "--grid 8",
        "--at POSITIONS",
        "--size 100",
    ):
        assert text in error.value.hint
    assert list(tmp_path.iterdir()) == [whole_scene]
    request = PredictionRequest(chip_options=ChipOptions(size=ChipSize(100)))
    assert predict(bundle, [whole_scene], tmp_path / "out.csv", request).counts == {
        "dark": 0,
        "bright": 1,
    }


def test_a_scene_among_chips_is_rejected(bundle, chips, whole_scene, tmp_path):
    whole_scene.rename(chips / "d_scene.tif")
    result = predict(bundle, [chips], tmp_path / "out.csv")
    assert len(result.table) == 3
    ((path, reason),) = result.rejected
    assert (
        path.name == "d_scene.tif"
        and "a scene, not a chip" in reason
        and "--detect" in reason
    )


def two_bands(monkeypatch):
    """Let jobs use a model of VH and VV that takes the brightness of VH."""
    contract = toy_contract(bands=("VH", "VV"), planes=("VH", "VV", "VH"))
    use_toy_model(monkeypatch, toy_bundle(contract=contract))


@pytest.mark.parametrize("query", [Query(), Query(grid=8)], ids=["chips", "scene"])
@pytest.mark.parametrize(
    ("names", "declared", "is_assumed"),
    [((), None, True), (("VV", "VH"), None, False), ((), ("VV", "VH"), False)],
)
def test_an_assumed_order_of_bands_is_stated_at_once_and_in_the_result(
    monkeypatch, tmp_path, caplog, query, names, declared, is_assumed
):
    two_bands(monkeypatch)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    path = write_geotiff(
        tmp_path / "a.tif", pixels, names=names, crs="EPSG:32633", transform=UTM
    )
    request = PredictionRequest(query=query, declaration=Declaration(bands=declared))
    result = predict(Path("bundle"), [path], tmp_path / "out.csv", request)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == is_assumed
    if is_assumed:
        assert all(
            "VH, VV" in text and "--bands VV,VH" in text
            for text in (result.notes[0], warnings[0])
        )
        assert "a.tif" in warnings[0]
    else:
        assert not any("state their names" in note for note in result.notes)


def test_existing_output_is_refused_before_any_work(bundle, tmp_path):
    (tmp_path / "out.csv").touch()
    with pytest.raises(RequestError, match="--overwrite"):
        predict(bundle, [tmp_path / "absent"], tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PredictionRequest(html_path=Path("page.txt")), ".html"),
        (
            PredictionRequest(chips_dir=Path("cut")),
            "only saved if they are cut from scenes",
        ),
        (
            PredictionRequest(
                query=Query(grid=8), chip_options=ChipOptions(spacing=3.0)
            ),
            "no such scene",
        ),
    ],
)
def test_refused_before_any_work(bundle, tmp_path, request_, message):
    with pytest.raises((RequestError, DataError), match=message):
        predict(bundle, [tmp_path / "absent.tif"], tmp_path / "out.csv", request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [{"at": Path("x"), "grid": 3}, {"stride": 3}, {"crs": "EPSG:4326"}, {"layer": "a"}],
)
def test_incompatible_options(options):
    with pytest.raises(RequestError, match=r"together|needs"):
        Query(**options)


def test_batches_and_readers_do_not_change_the_result(bundle, chips, tmp_path):
    calls: list[tuple[int, int, str]] = []
    one = predict(
        bundle, [chips], tmp_path / "a.csv", PredictionRequest(batch_size=1, readers=3)
    )
    request = PredictionRequest(batch_size=2)
    both = predict(
        bundle, [chips], tmp_path / "b.csv", request, lambda *step: calls.append(step)
    )
    pd.testing.assert_frame_equal(one.table, both.table)
    assert calls == [(2, 3, "classifying"), (3, 3, "classifying")]


def test_engines_that_take_two_callers(bundle, chips, tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=30)

    def engine(inputs):
        both.wait()  # returns once two threads have called it
        return brightness_logits(inputs)

    use_toy_model(monkeypatch, infer=engine, concurrency=2)
    (chips / "c_gray_as_rgb.png").unlink()
    table = predict(
        bundle, [chips], tmp_path / "out.csv", PredictionRequest(batch_size=1)
    ).table
    assert table["class"].tolist() == ["dark", "bright"]


def test_diverged_model(bundle, chips, tmp_path, monkeypatch):
    outputs = ClassifierOutputs(
        np.full((3, 2), np.nan, np.float32), np.zeros((3, 1), np.float32)
    )
    use_toy_model(monkeypatch, infer=lambda inputs: outputs)
    with pytest.raises(WeightsError, match="not finite"):
        predict(bundle, [chips], tmp_path / "out.csv")


def test_name_that_is_not_utf8(bundle, chips, tmp_path):
    odd = chips / os.fsdecode(b"caf\xe9.png")
    (chips / "a_dark.png").rename(odd)
    result = predict(bundle, [odd], tmp_path / "out.gpkg")
    assert result.table["chip"].tolist() == ["caf\\udce9.png"]


def test_scene_given_as_a_chip(bundle, tmp_path):
    write_geotiff(tmp_path / "s.tif", np.zeros((10, 9000), np.uint8))
    with pytest.raises(DataError, match=mentions("10 x 9,000", "not a chip", "--at")):
        predict(bundle, [tmp_path / "s.tif"], tmp_path / "out.csv")


def request_at(positions, **fields):
    """Return a request for chips of 16 pixels at the positions of a file."""
    return PredictionRequest(
        Query(at=positions),
        **({"chip_options": ChipOptions(size=ChipSize(16))} | fields),
    )


@pytest.fixture
def scene(tmp_path):
    """Write a scene of 64 x 128 pixels: the left side dark, the right side bright, one
    corner empty."""
    pixels = np.random.default_rng(0).integers(0, 60, (64, 128), np.uint8)
    pixels[:, 64:] += 180
    pixels[48:, :16] = 0
    return write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)


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


def ships_layer(path):
    """Write a layer of three ships with the feature ids 3, 4 and 6, as after features
    were deleted in QGIS."""
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(
        *(UTM @ (np.array([30, 100, 30]), 20))
    )
    attributes = {
        "mmsi": pd.array([211, 212, None], "Int64"),
        "class": ["tug", None, "ferry"],
        "built": pd.array([date(1999, 5, 1), None, None], pd.ArrowDtype(pa.date32())),
        "towing": pd.array([True, None, False], "boolean"),
        "nothing": pd.array([None] * 3, "Int64"),
    }
    layer = geopandas.GeoDataFrame(
        attributes, geometry=shapely.points(lon, lat), crs=4326
    )
    layer.to_file(path, use_arrow=True, SPATIAL_INDEX="NO")
    with sqlite3.connect(path) as database:
        database.executescript(
            "UPDATE ships SET fid = 9 WHERE fid = 3; UPDATE ships SET fid = fid + 2"
            " WHERE fid < 9;"
        )
        database.execute("UPDATE ships SET fid = 6 WHERE fid = 9")
    return path


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
        "at": (
            Query(at=written(tmp_path / "at.csv", "row,col,mmsi\n")),
            16,
            "at.csv has no positions",
        ),
        "grid": (Query(grid=16), None, "all tiles are without data"),
        "detect": (Query(detect=CfarOptions()), 16, "no object was detected"),
    }
    scene_query, side, reason = queries[query]
    out = tmp_path / f"out.{suffix}"
    request = PredictionRequest(
        scene_query, chip_options=ChipOptions(size=ChipSize(side))
    )
    result = predict(bundle, [scene], out, request)
    assert result.notes[0] == f"the table has no rows: {reason}"
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
        DataError, match=mentions("none", "2 positions", "in s.tif")
    ) as caught:
        predict(bundle, [scene], out, request)
    assert (
        "positions outside of s.tif: 2 of 2; check the coordinate system"
        in str(caught.value)
        and not out.exists()
    )
    with pytest.raises(DataError, match=mentions("none", "2 positions", "2 scenes")):
        predict(bundle, [scene, other], out, request)
    request = replace(request, html_path=tmp_path / "page.html")
    result = predict(bundle, [scene], out, request, may_be_outside=True)
    assert (
        result.table.empty
        and result.notes[0]
        == "the table has no rows: no position of at.csv lies in a scene"
    )
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


def _killed_after(calls, *arguments):
    """Run a job whose process is killed after some calls of the engine."""
    remaining = [calls]

    def engine(inputs):
        remaining[0] -= 1
        if remaining[0] < 0:
            kill_this_process()
        return brightness_logits(inputs)

    use_toy_model(pytest.MonkeyPatch(), infer=engine)
    predict(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("query", ["grid", "at"])
def test_killed_job_is_resumed(bundle, scene, tmp_path, caplog, monkeypatch, query):
    out = tmp_path / "out.gpkg"
    request = PredictionRequest(query=Query(grid=8))
    if query == "at":
        request = request_at(ships_layer(tmp_path / "ships.gpkg"))
    size, calls, count = (8, 9, 124) if query == "grid" else (1, 2, 3)
    request = replace(request, batch_size=size)
    whole = predict(bundle, [scene], tmp_path / "whole.gpkg", request)
    run_until_killed(_killed_after, calls, bundle, [scene], out, request)
    assert not out.exists()
    batch_sizes = []

    def engine(inputs):
        batch_sizes.append(len(inputs))
        return brightness_logits(inputs)

    use_toy_model(monkeypatch, infer=engine)
    resumed = predict(bundle, [scene], out, request)
    found = re.search("resuming an interrupted job after ([1289]) batches", caplog.text)
    assert (
        found
        and sum(batch_sizes) <= count - int(found[1]) * size
        and len(whole.table) == count
    )
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    assert resumed.notes == whole.notes and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", ["csv", "gpkg"])
def test_a_page_that_failed_is_finished_by_the_same_call(
    bundle, scene, tmp_path, monkeypatch, suffix
):
    out = tmp_path / f"out.{suffix}"
    page = tmp_path / "page.html"
    request = PredictionRequest(query=Query(grid=16), batch_size=8, html_path=page)

    def fill_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(result_module, "write_review_page", fill_disk)
        with pytest.raises(OSError, match="No space"):
            predict(bundle, [scene], out, request)
    assert out.is_file() and not page.exists()
    with pytest.raises(RequestError, match="exists already"):  # of another job
        predict(bundle, [scene], out, replace(request, query=Query(grid=8)))
    with pytest.raises(RequestError, match="exists already"):  # with another page
        predict(
            bundle, [scene], out, replace(request, html_path=tmp_path / "other.html")
        )
    result = predict(bundle, [scene], out, request)
    assert len(result.table) == 31 and page.is_file() and not list(tmp_path.glob(".*"))
    with pytest.raises(RequestError, match="exists already"):
        predict(bundle, [scene], out, request)


@pytest.mark.slow
def test_a_job_that_is_killed_after_its_last_output_can_be_repeated(
    bundle, scene, tmp_path
):
    request = PredictionRequest(
        query=Query(grid=16), batch_size=8, html_path=tmp_path / "page.html"
    )

    def predict_and_die():
        BatchJournal.close = kill_this_process
        predict(bundle, [scene], tmp_path / "out.csv", request)

    run_until_killed(predict_and_die)
    assert (tmp_path / "page.html").is_file()
    assert len(
        predict(bundle, [scene], tmp_path / "out.csv", request).table
    ) == 31 and not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_scene_on_a_web_server_is_resumed_after_a_failure(
    bundle, scene, tmp_path, monkeypatch
):
    # no test waits for the pause between two requests
    monkeypatch.setattr("rsft.utils.remote_files._PAUSE", 0)
    request = PredictionRequest(query=Query(grid=8), batch_size=8)
    local = predict(bundle, [scene], tmp_path / "local.csv", request)
    batch_sizes: list[int] = []
    with serving_folder(scene.parent) as server:

        def engine(inputs):
            batch_sizes.append(len(inputs))
            if len(batch_sizes) == 3:
                raise NetworkError("127.0.0.1 answered 503", server.url(scene.name))
            return brightness_logits(inputs)

        use_toy_model(monkeypatch, infer=engine)
        address = server.url(f"{scene.name}?sig=1")
        with pytest.raises(NetworkError, match="answered 503"):
            predict(bundle, [address], tmp_path / "out.csv", request)
        seen = sum(batch_sizes)
        result = predict(
            bundle, [server.url(f"{scene.name}?sig=2")], tmp_path / "out.csv", request
        )
    assert sum(batch_sizes) - seen < len(local.table) and len(result.table) == len(
        local.table
    )
    assert result.table["path"].unique().tolist() == [server.url(scene.name)]
    same = ["chip", "scene", "row", "col", "lon", "lat", "class", "probability"]
    pd.testing.assert_frame_equal(result.table[same], local.table[same])
    assert "sig" not in str(result.notes) and result.notes[0] == local.notes[0]


def test_class_sets_of_foreign_chips_are_withheld(bundle, tmp_path, monkeypatch):
    use_toy_model(monkeypatch, toy_bundle(calibrator=brightness_calibrator()))
    folder = tmp_path / "gray"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        cv2.imwrite(
            str(folder / f"{number:02}.png"), rng.integers(120, 135, (16, 16), np.uint8)
        )
    out = tmp_path / "out.gpkg"
    page = tmp_path / "page.html"
    result = predict(bundle, [folder], out, PredictionRequest(html_path=page))
    assert result.table["class_set"].isna().all() and result.table["ood"].all()
    assert result.notes[-1].startswith(
        "12 of 12 chips are unlike the training chips (5% are expected, up to"
    )
    assert result.notes[-1].endswith("by chance); do not trust their classes")
    assert (
        "class sets withheld for 12 chips: most of these chips are unlike the training"
        " chips" in result.notes
    )
    assert result.notes[-1] in page.read_text()
    stored = pyogrio.read_dataframe(out, layer="predictions")
    assert "class_set" in stored and stored["class_set"].isna().all()
    metadata = read_geopackage_metadata(out)
    assert int(metadata["ood"]) == int(metadata["withheld"]) == 12 and result.notes[
        -1
    ] in str(metadata["notes"])
    (check,) = result.checks
    assert (check.chips, check.class_sets, check.test.shifted[0]) == (
        12,
        "withheld",
        "distance",
    )
