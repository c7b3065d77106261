"""Chips from disk as they are: number type and values unchanged, and an error for anything less than a whole image."""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from rsft.errors import DataError
from rsft.types import Pixels

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
MAX_PIXELS = 2**30
"""Of an image that is no TIFF. Some of DOTA have 20,000 x 20,000, and Pillow itself refuses more than 179 million."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_FIX = "copy or download the file again, or leave it out"
_EXPANDED = {"1": "L", "P": "RGB", "PA": "RGBA"}  # Pillow modes that hold bits or palette indices, not grey values
_pillow_limit = threading.Lock()

logging.getLogger("rasterio").addHandler(logging.NullHandler())  # what GDAL logs comes back as an exception


def read_chip(path: Path) -> Pixels:
    """Read an image whole: (H, W, B), bands in R, G, B order where there are three.

    The no-data value that a GeoTIFF declares becomes NaN in floats, and 0 in integers.

    Raises:
        DataError: the file is absent, empty, cut short or no image; every pixel has one value; a pixel is NaN, which
            was not declared to mean no data.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path, _FIX) from error
    if not data:
        raise DataError("the file is empty", path, _FIX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing georeference and odd tags
        pixels = _read_tiff(data, path) if data.startswith(_TIFF_MAGIC) else _decode(data, path)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    check_values(pixels, path)
    return pixels


def open_image(path: Path, data: bytes | None = None) -> Image.Image:
    """An image of at most MAX_PIXELS with its header read and nothing decoded; out of `data` where the file was read.

    Pillow's own limit is a global. It is raised while a header is read, by one thread at a time, and put back: other
    code that uses Pillow may meet ours in that moment, and never afterwards.

    Raises:
        DataError: the file is no image, or a larger one.
    """
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow itself refuses at twice its limit only
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        try:
            return Image.open(path if data is None else io.BytesIO(data))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            what = f"the image is too large: it has more than {MAX_PIXELS:,} pixels"
            raise DataError(what, path, "cut it into smaller ones, or leave it out") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError("the file is not an image that can be read", path, _FIX) from error
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _read_tiff(data: bytes, path: Path) -> Pixels:
    try:
        with MemoryFile(data) as memory, memory.open() as file:  # rasterio opens no path that is not UTF-8
            if ColorInterp.palette in file.colorinterp:
                raise DataError("the pixels are indices into a palette", path, "convert the file to grey or RGB")
            bands: Pixels = file.read()  # (B, H, W)
            declared = file.nodatavals
    except RasterioError as error:
        raise DataError("the file is cut short or damaged", path, _FIX) from error
    for band, nothing in zip(bands, declared, strict=True):
        mask_nodata(band, nothing, path)
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def mask_nodata(band: Pixels, nothing: float | None, path: Path) -> None:
    """Mark what has no value in a band (H, W), in place: NaN in floats, 0 in integers.

    Raises:
        DataError: a value is NaN, which was not declared to mean no data.
    """
    if not np.issubdtype(band.dtype, np.inexact):
        if nothing:
            band[band == nothing] = 0
        return
    missing = 0 if nothing is not None and np.isnan(nothing) else int(np.isnan(band).sum())
    if missing:
        raise DataError(f"{missing} of {band.size} values are NaN", path, "declare NaN as no data, or fill them in")
    if nothing is not None:
        band[band == nothing] = np.nan


def _decode(data: bytes, path: Path) -> Pixels:
    """Everything but TIFF. Pillow is strict about missing bytes, which OpenCV fills in."""
    image = open_image(path, data)
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError("the file is cut short or damaged", path, _FIX) from error
    if data.startswith(_PNG_MAGIC):
        if data.rfind(_PNG_END) < 0:  # from the end, where it is
            raise DataError("the file is cut short or damaged", path, _FIX)
        if data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):  # bit depth, which Pillow halves without a word
            return _decode_png16(data, path)
    return np.asarray(image.convert(_EXPANDED[image.mode]) if image.mode in _EXPANDED else image)


def _decode_png16(data: bytes, path: Path) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError("the file is cut short or damaged", path, _FIX)
    return np.concatenate([pixels[:, :, 2::-1], pixels[:, :, 3:]], axis=2)  # from OpenCV's B, G, R


def check_values(pixels: Pixels, path: Path) -> None:
    """Whether pixels (H, W, B) show anything.

    Raises:
        DataError: none has a value, or all have the same.
    """
    valid = pixels[~np.isnan(pixels)] if np.issubdtype(pixels.dtype, np.inexact) else pixels
    if not valid.size:
        raise DataError("no pixel has a value", path, "leave the file out")
    low, high = valid.min(), valid.max()
    if low == high:
        raise DataError(f"every pixel is {low}", path, "leave the file out")
