"""Find chips by file, folder and glob; their georeference, and how rarely GDAL opens
them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from rsft.errors import DataError, RequestError
from rsft.inference.predict import chip_files
from rsft.inference.predict.chip_files import ChipFiles, find_chips, find_scenes
from rsft.scenes.options import UNDECLARED, ChipOptions, Declaration
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, toy_contract, write_geotiff

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)


def read(path):
    return ChipFiles({str(path): UNDECLARED}, toy_contract(), ChipOptions()).read(0)


@pytest.fixture
def png(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    return tmp_path / "a.png"


def test_single_png_has_no_georeference_and_is_not_opened_by_gdal(png, monkeypatch):
    monkeypatch.setattr("rsft.data.imagery.rasters.open_raster", None)
    (png.parent / "b.png.aux.xml").touch()
    chip = read(png)
    assert chip.columns["geometry"] is None and chip.spacing is None
    np.testing.assert_array_equal(chip.pixels[:, :, 0], PIXELS)


def test_georeference_in_sidecar_file(tmp_path):
    profile = {"driver": "PNG", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.png", "w", crs="EPSG:32633", transform=UTM, **profile
    ) as file:
        file.write(PIXELS[None])
    assert (tmp_path / "a.png.aux.xml").exists()
    chip = read(tmp_path / "a.png")
    assert chip.columns["geometry"].bounds == pytest.approx(
        (15, 45.152, 15.002, 45.154), abs=1e-3
    )
    assert chip.spacing == pytest.approx((10, 10), abs=0.02)


def test_renamed_geotiff_keeps_its_georeference(tmp_path):
    profile = {
        "driver": "GTiff",
        "width": 16,
        "height": 16,
        "count": 1,
        "dtype": "uint8",
    }
    with rasterio.open(
        tmp_path / "a.tif", "w", crs="EPSG:32633", transform=UTM, **profile
    ) as file:
        file.write(PIXELS[None])
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    assert read(tmp_path / "a.png").spacing == pytest.approx((10, 10), abs=0.02)


def test_folder_that_cannot_be_listed(png, monkeypatch):
    def refuse(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(chip_files.Path, "iterdir", refuse)
    assert read(png).columns["geometry"] is None


def test_png_larger_than_a_chip(tmp_path, monkeypatch):
    monkeypatch.setattr(chip_files, "MAX_CHIP_SIDE", 8)
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    with pytest.raises(DataError, match=mentions("16 x 16", "not a chip")):
        read(tmp_path / "a.png")


def test_a_chip_of_a_store_may_be_much_larger_than_the_input(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(PIXELS, (5, 5)))
    with pytest.raises(DataError, match="80 x 80 pixels are a scene"):
        read(tmp_path / "a.png")
    files = {str(tmp_path / "a.png"): Declaration(is_chip=True)}
    assert ChipFiles(files, toy_contract(), ChipOptions()).read(0).pixels.shape == (
        80,
        80,
        1,
    )


def test_fine_pixels_that_are_resampled_are_no_scene(tmp_path):
    path = write_geotiff(
        tmp_path / "a.tif", np.tile(PIXELS, (5, 5)), crs="EPSG:32633", transform=UTM
    )  # 10 m
    files = ChipFiles(
        {str(path): UNDECLARED}, toy_contract(), ChipOptions(resample_to=40)
    )
    assert files.read(0).pixels.shape == (20, 20, 1)


def read_vv(path, declared=None):
    contract = toy_contract(bands=("VH", "VV"), planes=("VV",) * 3)
    return ChipFiles(
        {str(path): Declaration(bands=declared)}, contract, ChipOptions()
    ).read(0)


def test_bands_are_selected_by_the_names_in_the_file(tmp_path):
    pixels = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    named = read_vv(write_geotiff(tmp_path / "a.tif", pixels, names=("HH", "VV", "VH")))
    np.testing.assert_array_equal(named.pixels[:, :, 0], PIXELS + 1)
    alone = read_vv(write_geotiff(tmp_path / "b.tif", PIXELS))
    np.testing.assert_array_equal(alone.pixels[:, :, 0], PIXELS)
    nameless = read_vv(write_geotiff(tmp_path / "c.tif", pixels[:2]))
    np.testing.assert_array_equal(nameless.pixels[:, :, 0], PIXELS + 1)


def test_names_in_the_file_are_checked(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS, names=("Sigma0_VH",))
    with pytest.raises(DataError, match=mentions("bands VH", "takes VV")):
        read_vv(path)
    with pytest.raises(DataError, match=mentions("bands VH", "VV was declared")):
        read_vv(path, ("VV",))


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    for name in ("c/b.png", "c/deep/a.TIF", "c/notes.txt", "c/deep/raw", "d/x[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "chips", "skipped"),
    [
        (["c"], ["c/b.png", "c/deep/a.TIF"], 2),
        (["c/deep/raw", "c"], ["c/b.png", "c/deep/a.TIF", "c/deep/raw"], 1),
        (["c/*.txt"], ["c/notes.txt"], 0),
        (["**/*.png", "c/b.png"], ["c/b.png", "d/x[1].png"], 0),
        (["?"], ["c/b.png", "c/deep/a.TIF", "d/x[1].png"], 2),
        (["d/x[1].png"], ["d/x[1].png"], 0),
    ],
)
def test_find_chips(inputs, chips, skipped):
    found, others = find_chips([Path(name) for name in inputs])
    assert (list(found), others) == (chips, skipped)


def test_chips_are_sorted_by_folder_and_name():
    paths = [
        Path(name) for name in ("d/e/f.png", "d/e.png", "d/e-1/f.png", "d/e 1.png")
    ]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(find_chips(["d"])[0]) == [
        str(path) for path in sorted([*paths, Path("d/x[1].png")])
    ]


def test_absolute_glob(tmp_path):
    assert list(find_chips([tmp_path / "c" / "*.png"])[0]) == [
        str(tmp_path / "c" / "b.png")
    ]


@pytest.mark.parametrize("name", ["absent.png", "c/*.jpg", "c/a**b"])
def test_missing_input(name):
    with pytest.raises(RequestError, match="no such file"):
        find_chips([Path("c"), Path(name)])


def test_folder_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no chips"):
        find_chips([Path("empty")])


def test_figures_of_a_chip_store_are_not_chips(root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    (store / "chips/train/flat/stray.png").touch()
    chips, skipped = find_chips([store])
    assert (len(chips), skipped) == (58, 0) and {
        Path(path).relative_to(store).parts[0] for path in chips
    } == {"chips"}


def test_declared_bands_that_contradict_a_chip_store(monkeypatch):
    Path("c/manifest.parquet").touch()
    chip = "c/a.tif"
    monkeypatch.setattr(
        chip_files,
        "read_declarations",
        lambda store: {chip: Declaration("db", ("VH", "VV"), 10.0)},
    )
    assert find_chips(["c"], Declaration("sigma0"))[0] == {
        chip: Declaration("sigma0", ("VH", "VV"), 10.0)
    }
    with pytest.raises(
        DataError, match="names its bands VH, VV, but VV, VH was declared"
    ):
        find_chips(["c"], Declaration(bands=("VV", "VH")))


def test_a_pattern_starts_no_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = {"stac_version": "1.0.0", "assets": {"a": {"href": "a.tif"}}}
    for name, content in (
        ("a.json", item),
        ("b.json", {"assets": []}),
        ("c.json", [1]),
    ):
        Path(name).write_text(json.dumps(content))
    assert [uri.text for uri in find_scenes(["*.json"])] == [
        "a.json",
        "b.json",
        "c.json",
    ]
    Path("list.txt").write_text("[d].json\n")
    for href in (
        "https://example.com/a.tif",
        "s3://bucket/a.tif",
        "/vsicurl/https://example.com/a.tif",
    ):
        Path("d.json").write_text(
            json.dumps(item | {"assets": {"a": {"href": href}}}).replace("h", "\\u0068")
        )
        for pattern in ("*.json", "@list.txt"):
            with pytest.raises(RequestError, match="STAC item with files on a server"):
                find_scenes([pattern])
        assert [uri.text for uri in find_scenes(["d.json"])] == ["d.json"]


def test_find_scenes():
    Path("scenes.txt").write_text(
        "# comment\nc/*.png\nhttps://h.org/a.tif?x=[1]\ns3://b/k.tif\nd/x[1].png\n"
    )
    inputs = [
        "./c/b.png",
        "@scenes.txt",
        Path("absent.tif"),
        "NETCDF:a.nc:VV",
        "/vsizip/z.zip/a*.tif",
        "d/*",
    ]
    assert [uri.text for uri in find_scenes(inputs)] == [
        "c/b.png", "c/b.png", "https://h.org/a.tif?x=[1]", "s3://b/k.tif", "d/x[1].png", "absent.tif",
        "NETCDF:a.nc:VV", "/vsizip/z.zip/a*.tif", "d/x[1].png",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="no such file"):
        find_scenes(["c/*.jpg"])
    with pytest.raises(RequestError, match=mentions("list cannot be read")):
        find_scenes(["@absent.txt"])


@pytest.mark.parametrize(
    "name", ["https://h.org/a.png?sig=1", "/vsizip/z.zip/a.png", "NETCDF:a.nc:VV"]
)
def test_an_address_is_a_scene(name):
    with pytest.raises(
        RequestError, match=mentions("files or folders", "--grid")
    ) as caught:
        find_chips(["c", name])
    assert "sig" not in str(caught.value)
