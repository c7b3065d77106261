"""Complete images are read unchanged; all other files are errors with a reason."""

import hashlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rasterio.errors import NotGeoreferencedWarning

from rsft.data.imagery import reader
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from tests.helpers.geokeys import write_chip_with_damaged_geokey
from tests.helpers.messages import mentions
from tests.helpers.scenes import add_mask, write_geotiff

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (24, 20), dtype=np.uint8)
RGB = RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)


def write_tiff(path, pixels, **options):
    """Write pixels (H, W, B) without a georeference."""
    height, width, count = pixels.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": pixels.dtype,
        **options,
    }
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", **profile) as file,
    ):
        file.write(pixels.transpose(2, 0, 1))


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("a.png", GRAY), ("b.png", GRAY.astype(np.uint16) * 257), ("c.png", RGB), ("a.tiff", GRAY),
     ("b.tiff", GRAY.astype(np.uint16) * 257), ("c.tiff", RGB), ("a.bmp", RGB)],
)  # fmt: skip
def test_pixels_are_not_changed(tmp_path, name, pixels):
    back = read_chip(save(tmp_path / name, pixels))
    assert back.dtype == pixels.dtype
    np.testing.assert_array_equal(back, pixels.reshape(24, 20, -1))


@pytest.mark.parametrize("shape", [(257, 300), (257, 300, 3)])
def test_large_png_of_a_known_digest_is_decoded_by_gdal_to_the_same_pixels(
    tmp_path, monkeypatch, shape
):
    path = save(tmp_path / "a.png", RNG.integers(0, 256, shape, np.uint8))
    with pytest.raises(DataError, match="differs from the manifest"):
        read_chip(path, "0" * 64)
    pixels = read_chip(path)
    data = bytearray(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(PngImageFile, "load", None)
        np.testing.assert_array_equal(
            read_chip(path, hashlib.sha256(data).hexdigest()), pixels
        )
    data[23] = 0  # 256 rows: Pillow ignores the last one, for GDAL this is an error
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    np.testing.assert_array_equal(
        read_chip(path, hashlib.sha256(data).hexdigest()), pixels[:256]
    )


def test_color_png_of_16_bits_keeps_its_bits_in_rgb_order(tmp_path):
    pixels = RGB.astype(np.uint16) * 251
    cv2.imwrite(str(tmp_path / "a.png"), pixels[:, :, ::-1])
    np.testing.assert_array_equal(read_chip(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_tiff_of_many_bands_passes_unchanged(tmp_path, dtype):
    pixels = RNG.normal(0, 100, (9, 7, 5)).astype(dtype)
    write_tiff(tmp_path / "a.tif", pixels)
    back = read_chip(tmp_path / "a.tif")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_pixels(tmp_path, dtype):
    path = write_geotiff(
        tmp_path / "slc.tif", np.ones((8, 8), np.complex64) * (1 + 2j), dtype=dtype
    )
    with pytest.raises(DataError, match="the pixels are complex") as caught:
        read_chip(path)
    assert "--read modulus" in caught.value.hint


def test_palette_png_gives_colors(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_chip(tmp_path / "a.png"), np.asarray(image.convert("RGB"))
    )


def test_format_depends_on_the_content_only(tmp_path):
    save(tmp_path / "a.png", GRAY).rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_chip(tmp_path / "a.tif")[..., 0], GRAY)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True}),
        ("a.tif", {}),
        ("b.tif", {"compression": "raw"}),
    ],
)
def test_truncated_file_is_an_error_at_any_length(tmp_path, name, options):
    data = save(tmp_path / name, GRAY, **options).read_bytes()
    for length in [*range(1, len(data) - 10, 11), len(data) - 10]:
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(DataError, match=r"truncated|not an image"):
            read_chip(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"this is text\n", "not an image"), (b"II*\0junk", "damaged")],
)
def test_file_that_is_not_an_image_is_an_error(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_chip(tmp_path / "a.png")
    assert caught.value.location == str(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
@pytest.mark.filterwarnings("error")
def test_pixel_limit_is_ours_and_that_of_pillow_is_restored(
    tmp_path, monkeypatch, name
):
    path = save(tmp_path / name, RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(reader, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1])
    assert read_chip(path).shape == RGB.shape
    monkeypatch.setattr(reader, "MAX_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    with pytest.raises(
        DataError, match=mentions("too large", "479 pixels", "a.")
    ) as caught:
        read_chip(path)
    assert (
        caught.value.hint == "cut it into smaller ones, or leave it out"
        and Image.MAX_IMAGE_PIXELS == 100
    )
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


@pytest.mark.parametrize(
    ("name", "dtype", "value"), [("a.tiff", np.uint16, 0), ("a.png", np.uint8, 17)]
)
def test_constant_chip_is_an_error(tmp_path, name, dtype, value):
    with pytest.raises(DataError, match=f"every pixel is {value} "):
        read_chip(save(tmp_path / name, np.full((8, 8), value, dtype)))


def test_nan_is_an_error_with_a_count(tmp_path):
    pixels = RNG.normal(size=(8, 8, 1)).astype(np.float32)
    pixels[0, :3] = np.nan
    write_tiff(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError, match=mentions("3 of 64", "NaN")):
        read_chip(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_an_error_unless_they_are_declared(tmp_path, value):
    pixels = RNG.normal(size=(8, 8, 1)).astype(np.float32)
    pixels[0, :3] = value
    for nodata in (None, -1, np.nan):
        write_tiff(tmp_path / "a.tif", pixels, nodata=nodata)
        with pytest.raises(DataError, match=mentions("3 of 64", "infinite", "a.tif")):
            read_chip(tmp_path / "a.tif")
    write_tiff(tmp_path / "a.tif", pixels, nodata=value)
    assert np.isnan(read_chip(tmp_path / "a.tif")).sum() == 3


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pixels_outside_of_the_mask_have_no_data(tmp_path, dtype):
    pixels = RNG.integers(1, 99, (6, 5, 2)).astype(dtype)
    if dtype == "float32":
        pixels[0, 0] = np.nan
    valid = np.ones((6, 5), bool)
    valid[0, :3] = False
    write_tiff(tmp_path / "a.tif", pixels)
    add_mask(tmp_path / "a.tif", valid)
    masked = np.nan if dtype == "float32" else 0
    np.testing.assert_array_equal(
        read_chip(tmp_path / "a.tif"), np.where(valid[:, :, None], pixels, masked)
    )
    add_mask(tmp_path / "a.tif", np.zeros_like(valid))
    with pytest.raises(DataError, match=mentions("mask", "no pixel", "a.tif")):
        read_chip(tmp_path / "a.tif")


def test_scale_and_offset_are_applied(tmp_path):
    path = write_geotiff(
        tmp_path / "a.tif",
        np.uint8([[7, 2], [4, 255]]),
        scales=(0.5,),
        offsets=(10,),
        nodata=7,
    )
    pixels = read_chip(path)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[:, :, 0], [[np.nan, 11], [12, 137.5]])


def test_inverted_pixels_are_an_error(tmp_path):
    write_geotiff(tmp_path / "a.tif", GRAY, photometric="miniswhite")
    with pytest.raises(
        DataError, match=mentions("inverted", "MINISWHITE", "a.tif")
    ) as caught:
        read_chip(tmp_path / "a.tif")
    assert "MINISBLACK" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.tif", "big-endian.tif", "big.tif"]
)
def test_turned_pixels_are_an_error(tmp_path, name):
    path = tmp_path / name
    for orientation in (1, 6):
        if name == "big-endian.tif":
            entries = [
                (256, 20),
                (257, 24),
                (258, 8),
                (259, 1),
                (262, 1),
                (273, 200),
                (274, orientation),
                (279, 480),
            ]
            tags = b"".join(
                struct.pack(">HHLHH", tag, 3, 1, value, 0) for tag, value in entries
            )
            header = b"MM\0*" + struct.pack(">LH", 8, len(entries)) + tags
            path.write_bytes(header.ljust(200, b"\0") + GRAY.tobytes())
        elif path.suffix == ".tif":
            save(path, GRAY, tiffinfo={274: orientation}, big_tiff=name == "big.tif")
        else:
            exif = Image.Exif()
            exif[274] = orientation
            save(path, RGB, exif=exif)
        if orientation == 1:
            assert read_chip(path).shape[:2] == (24, 20)
    with pytest.raises(DataError, match=mentions("turned", "orientation 6", name)):
        read_chip(path)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_large_png_with_turned_pixels_is_not_left_to_gdal(tmp_path, before):
    exif = Image.Exif()
    exif[274] = 6
    content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (
        struct.pack(">I", len(content) - 4)
        + content
        + struct.pack(">I", zlib.crc32(content))
    )
    path = save(tmp_path / "a.png", RNG.integers(0, 256, (256, 256), np.uint8))
    start, end, rest = path.read_bytes().partition(before)
    data = start[:-4] + chunk + start[-4:] + end + rest
    path.write_bytes(data)
    with pytest.raises(DataError, match=mentions("turned", "orientation 6")):
        read_chip(path, hashlib.sha256(data).hexdigest())


def test_a_damaged_geokey_is_an_error_of_this_file(tmp_path):
    with pytest.raises(DataError, match=mentions("damaged", "a.tif")):
        read_chip(write_chip_with_damaged_geokey(tmp_path / "a.tif"))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_file_of_24_gb_is_not_read(tmp_path, name):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 24 * 2**30)
    with pytest.raises(
        DataError,
        match=mentions("25,769,803,776 bytes", "limit is 2,147,483,648", name),
    ):
        read_chip(tmp_path / name)


@pytest.mark.filterwarnings("error")
def test_libraries_print_nothing(tmp_path, capfd):
    data = save(tmp_path / "a.tif", GRAY).read_bytes()
    read_chip(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(data[:-30])
    with pytest.raises(DataError):
        read_chip(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "nodata", "result"),
    [
        (np.float32([[-9999, 3], [4, 5]]), -9999, [[np.nan, 3], [4, 5]]),
        (np.float32([[np.nan, 3], [4, 5]]), np.nan, [[np.nan, 3], [4, 5]]),
        (np.uint16([[65535, 3], [4, 5]]), 65535, [[0, 3], [4, 5]]),
    ],
)
def test_declared_nodata(tmp_path, values, nodata, result):
    write_tiff(tmp_path / "a.tif", values[..., None], nodata=nodata)
    np.testing.assert_array_equal(read_chip(tmp_path / "a.tif")[..., 0], result)


def test_only_nodata(tmp_path):
    write_tiff(tmp_path / "a.tif", np.full((2, 2, 1), -1, np.float32), nodata=-1)
    with pytest.raises(DataError, match="no pixel"):
        read_chip(tmp_path / "a.tif")


def test_doubles_become_float32(tmp_path):
    lowest = np.finfo(np.float64).min
    for nodata in (lowest, None):
        path = tmp_path / f"{nodata}.tif"
        with rasterio.open(
            path, "w", "GTiff", 2, 2, 1, dtype="float64", nodata=nodata
        ) as file:
            file.write(np.array([[lowest, -20.125], [-21, -22]]), 1)
    pixels = read_chip(tmp_path / f"{lowest}.tif")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[:, :, 0], [[np.nan, -20.125], [-21, -22]])
    with pytest.raises(
        DataError, match=mentions("-1.798e+308", "float32", "None.tif", "nodata")
    ):
        read_chip(tmp_path / "None.tif")


def test_a_small_tiff_that_states_a_large_size(tmp_path):
    path = tmp_path / "a.tif"
    profile = {
        "width": 100_000,
        "height": 100_000,
        "count": 1,
        "dtype": "uint8",
        "SPARSE_OK": True,
        "tiled": True,
    }
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        compress="deflate",
        blockxsize=4096,
        blockysize=4096,
        **profile,
    ):
        pass
    assert path.stat().st_size < 100_000
    with pytest.raises(
        DataError, match=mentions("10,000,000,000 bytes", "limit is 4,294,967,296")
    ):
        read_chip(path)
