"""Windows of a raster are classified as the arrays in them, with their geometry."""

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from shapely.geometry import Polygon

from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.inference.predict.predictor import Predictor
from tests.helpers.scenes import (
    UTM,
    brightness_logits,
    toy_bundle,
    toy_contract,
    write_geotiff,
)

PIXELS = np.random.default_rng(0).integers(1, 256, (500, 600), np.uint8)
WINDOWS = [Window(100, 400, 64, 64), ((5, 69), (10, 74)), Window(520, 0, 47.2, 50)]


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.tif"
    return write_geotiff(path, PIXELS, crs="EPSG:32633", transform=UTM)


def test_windows_of_a_dataset(model, scene):
    with rasterio.open(scene) as dataset:
        table = model.predict(dataset, windows=WINDOWS)
        arrays = [PIXELS[400:464, 100:164], PIXELS[5:69, 10:74], PIXELS[:50, 520:568]]
        names = [f"p_{name}" for name in model.bundle.classes]
        assert table[names].equals(model.predict(arrays)[names])
        one = model.predict(dataset, windows=WINDOWS[0])
        features = model.features(dataset, windows=WINDOWS)
    names = [f"scene_{number:06d}" for number in range(3)]
    assert table["chip"].tolist() == names and set(table["path"]) == {str(scene)}
    assert table["col"].tolist()[:2] == [132, 42]
    assert table["row"].tolist() == [432, 37, 25] and "length_m" not in table
    assert one["p_cargo"][0] == pytest.approx(table["p_cargo"][0], rel=1e-4)
    np.testing.assert_allclose(features, model.features(arrays), rtol=1e-5)
    assert model.predict(scene, windows=WINDOWS).equals(table)


def test_windows_have_their_outlines(model, scene):
    table = model.predict(scene, windows=[Window(100, 200, 64, 64)])
    with rasterio.open(scene) as dataset:
        bounds = dataset.window_bounds(Window(100, 200, 64, 64))
        lonlat = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *bounds)
    outline = table["geometry"][0]
    assert isinstance(outline, Polygon)
    assert outline.bounds == pytest.approx(lonlat, abs=1e-6)


def test_a_window_without_data_keeps_its_row(model, tmp_path):
    pixels = PIXELS.copy()
    pixels[:, 300:] = 0
    path = write_geotiff(tmp_path / "half.tif", pixels, nodata=0)
    windows = [Window(0, 0, 64, 64), Window(400, 0, 64, 64), Window(-32, 0, 64, 64)]
    table = model.predict(path, windows=windows)
    assert table["class"].notna().tolist() == [True, False, True]
    assert table["rejected"].notna().tolist() == [False, True, False]
    cut = model.predict([PIXELS[:64, :32]])
    assert table["p_cargo"][2] == pytest.approx(cut["p_cargo"][0], rel=1e-4)
    with pytest.raises(DataError, match="window has no data"):
        model.logits(path, windows=windows)


def test_values_are_those_of_the_file(tmp_path, model):
    """Not the stored numbers: scale, offset and no data count."""
    path = tmp_path / "scaled.tif"
    stored = PIXELS.astype(np.uint16)
    write_geotiff(path, stored, nodata=0, scales=(2.0,), offsets=(0.0,))
    table = model.predict(path, windows=[Window(0, 0, 64, 64)])
    assert table["geometry"][0] is None and table["rejected"][0] is None


def test_an_assumed_order_of_bands_is_noted(tmp_path):
    contract = toy_contract(bands=("VH", "VV"), planes=("VH", "VV", "VH"))
    engine = LoadedEngine(brightness_logits, contract, REFERENCE)
    toy = Predictor(toy_bundle(contract=contract), engine)
    pixels = np.stack([PIXELS, PIXELS[::-1]])
    for names, count in ((), 1), (("VV", "VH"), 0):
        path = write_geotiff(tmp_path / f"{count}.tif", pixels, names=names)
        notes = toy.predict(path, windows=Window(0, 0, 8, 8)).attrs["notes"]
        assumed = [note for note in notes if "they are taken for VH, VV" in note]
        assert len(assumed) == count and "--" not in str(assumed)


@pytest.mark.parametrize(
    "windows", [[3], ["a"], [((1, 2),)], [Window(900, 0, 9, 9)], [Window(0, 0, 0, 9)]]
)
def test_what_is_no_window(model, scene, windows):
    with pytest.raises(RequestError) as error:
        model.predict(scene, windows=windows)
    assert error.value.location == "windows"


def test_no_windows(model, scene):
    with pytest.raises(RequestError, match="no chips"):
        model.predict(scene, windows=[])


def test_windows_belong_to_one_raster(model, scene):
    for chips in (PIXELS, [scene, scene]):
        with pytest.raises(RequestError, match="one raster"):
            model.predict(chips, windows=WINDOWS)


def test_a_dataset_in_memory_has_no_file(model, scene):
    with MemoryFile(scene.read_bytes()) as memory, memory.open() as dataset:
        with pytest.raises(RequestError, match=r"dataset\.read"):
            model.predict(dataset, windows=WINDOWS)
        assert len(model.predict(dataset.read(window=WINDOWS[0]))) == 1
    with (
        rasterio.open(scene) as dataset,
        WarpedVRT(dataset, crs="EPSG:4326") as warped,
        pytest.raises(RequestError, match=r"dataset\.read"),
    ):
        model.predict(warped)
