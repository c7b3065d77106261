"""Geometry of predictions on real scenes, with a toy model that classifies by
brightness."""

import zipfile
from xml.etree import ElementTree

import cv2
import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer, rowcol

from rsft.data.imagery.stretch import CHIP_MAX, Stretch
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.scenes.options import Declaration
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.scenes import toy_bundle, toy_contract, use_toy_model
from tests.helpers.sentinel1 import calibrate_pixel

pytestmark = pytest.mark.realdata

PIXELS = np.array([[101.5, 60.5], [400.5, 333.5], [250.5, 490.5]])  # row, col


@pytest.fixture
def model(monkeypatch):
    def use(**fields):
        use_toy_model(monkeypatch, toy_bundle(contract=toy_contract(**fields)))

    return use


def sar(unit, bands, stretch=CHIP_MAX, **fields):
    planes = (bands[0],) * 3
    return {
        "units": {unit: (stretch,) * 3},
        "bands": bands,
        "planes": planes,
        "crop": 32,
    } | fields


def pixels_by_rasterio(path, lon, lat, crs):
    """Return row and column by rasterio, with the points in the coordinates of the
    file."""
    moved = geopandas.GeoSeries(shapely.points(lon, lat), crs=4326).to_crs(crs)
    with rasterio.open(path) as file:
        rows, cols = rowcol(
            file.transform,
            moved.x.to_numpy(),
            moved.y.to_numpy(),
            op=lambda value: value,
        )
    return np.column_stack([rows, cols])


@pytest.mark.parametrize("crs", [4326, 32630, 3857])
def test_a_point_on_a_known_pixel_comes_back(model, shared, tmp_path, crs):
    path = shared("sen1floods11_sample") / "Spain_7370579_S1Hand.tif"
    model(**sar("db", ("VV", "VH"), Stretch(low=-25, high=0)))
    with rasterio.open(path) as file:
        x, y = file.transform @ (PIXELS[:, 1], PIXELS[:, 0])
    geopandas.GeoDataFrame(geometry=shapely.points(x, y), crs=4326).to_crs(crs).to_file(
        tmp_path / "ships.gpkg"
    )
    request = PredictionRequest(
        Query(at=tmp_path / "ships.gpkg"),
        Declaration("db"),
        chips_dir=tmp_path / "cut",
    )
    table = predict(tmp_path, [path], tmp_path / "out.gpkg", request).table.sort_values(
        "at"
    )
    assert table[["row", "col"]].to_numpy() == pytest.approx(PIXELS, abs=0.01)
    frame = pyogrio.read_dataframe(
        tmp_path / "out.gpkg", layer="predictions"
    ).sort_values("at")
    back = pixels_by_rasterio(path, frame.geometry.x, frame.geometry.y, 4326)
    assert back == pytest.approx(PIXELS, abs=0.01)
    with (
        rasterio.open(tmp_path / "cut/Spain_7370579_S1Hand_000001.tif") as cut,
        rasterio.open(path) as whole,
    ):
        window = rasterio.windows.Window(60 - 16, 101 - 16, 32, 32)
        assert (
            cut.read() == whole.read([1], window=window)
        ).all() and cut.descriptions == ("VV",)
        assert cut.transform.almost_equals(whole.window_transform(window), 1e-12)


def test_a_scene_of_ground_control_points_alone(model, shared, tmp_path):
    (path,) = shared("s1_ew_gcp").glob("S1A*.tif")
    model(**sar("amplitude", ("HV",), spacing_m=40.0))
    with rasterio.open(path) as file:
        gcps, _ = file.gcps
    lon, lat = GCPTransformer(gcps).xy(*PIXELS.T, offset="ul")
    rows = [f"{x},{y}" for x, y in zip(lon, lat, strict=True)]
    (tmp_path / "ships.csv").write_text("\n".join(["lon,lat", *rows]))
    request = PredictionRequest(
        Query(at=tmp_path / "ships.csv"), Declaration("amplitude")
    )
    table = predict(tmp_path, [path], tmp_path / "out.gpkg", request).table.sort_values(
        "at"
    )
    # rasterio's polynomial is 27 m off
    assert table[["row", "col"]].to_numpy() == pytest.approx(PIXELS, abs=1)
    frame = pyogrio.read_dataframe(
        tmp_path / "out.gpkg", layer="predictions"
    ).sort_values("at")
    assert frame.geometry.x.to_numpy() == pytest.approx(lon, abs=1e-6)
    assert frame.geometry.y.to_numpy() == pytest.approx(lat, abs=1e-6)


def test_a_raw_product_is_calibrated(model, shared, tmp_path):
    """The XML files and control points are those of a real product; the measurement is
    simulated."""
    (archive,) = shared("s1_safe_annotation").glob("*.zip")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    (safe,) = tmp_path.glob("*.SAFE")
    (annotation,) = (safe / "annotation").glob("s1a-iw-grd-vv-*.xml")
    grid = ElementTree.parse(annotation).findall(".//geolocationGridPoint")
    names = ("line", "pixel", "longitude", "latitude")
    gcps = [
        GroundControlPoint(*(float(point.findtext(name)) for name in names))
        for point in grid
    ]
    dn = np.random.default_rng(0).gamma(4, 40, (64, 64)).astype(np.uint16)
    profile = {
        "driver": "GTiff",
        "width": 25931,
        "height": 16854,
        "count": 1,
        "dtype": "uint16",
    }
    (safe / "measurement").mkdir(exist_ok=True)
    path = safe / f"measurement/{annotation.stem}.tiff"
    with rasterio.open(
        path, "w", **profile, crs="EPSG:4326", gcps=gcps, SPARSE_OK=True
    ) as file:
        file.write(dn[None], window=rasterio.windows.Window(20_000, 9_000, 64, 64))
    model(**sar("db", ("VV",), Stretch(low=-30, high=0), spacing_m=10.0))
    (tmp_path / "at.csv").write_text("row,col\n9032,20032\n")
    request = PredictionRequest(
        Query(at=tmp_path / "at.csv", crs="pixel"), chips_dir=tmp_path / "cut"
    )
    result = predict(tmp_path, [safe], tmp_path / "out.gpkg", request)
    (path,) = (tmp_path / "cut").glob("*.tif")
    with rasterio.open(path) as cut:
        sigma0 = cut.read(1)
    for row, col in ((0, 0), (5, 9), (31, 31)):
        pixel = float(dn[16 + row, 16 + col]), 9016 + row, 20016 + col
        assert sigma0[row, col] == pytest.approx(
            calibrate_pixel(safe, "vv", *pixel, "sigma0", True), rel=1e-5
        )
    assert result.table["incidence_deg"].tolist() == pytest.approx([42.9], abs=0.3)
    assert any("210 ground control points" in note for note in result.notes)


def boxes(mask):
    """Return x, y, width and height of the ships in a mask of HRSID."""
    green = (cv2.imread(str(mask))[:, :, 1] > 127).astype(np.uint8)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(green, connectivity=8)
    return [row[:4].tolist() for row in statistics[1:] if row[4] >= 10]


@pytest.mark.slow
def test_bright_objects_of_real_scenes(model, shared, tmp_path):
    """Measure the detector on tiles with harbors and bright shores."""
    root = shared("hrsid_scenes")
    model(**sar("uint8", ("gray",), Stretch(), crop=128))
    scenes = sorted((root / "images").glob("*.jpg"))
    table = predict(
        tmp_path,
        scenes,
        tmp_path / "out.csv",
        PredictionRequest(Query(detect=CfarOptions())),
    ).table
    hit = total = 0
    for scene in scenes:
        rows = table[table["scene"] == scene.name]
        for x, y, w, h in boxes(root / f"masks/{scene.stem}.png"):
            total += 1
            inside = rows["col"].between(x - 3, x + w + 3) & rows["row"].between(
                y - 3, y + h + 3
            )
            hit += bool(inside.any())
    assert (hit, total, len(table)) == (29, 31, 57)
