"""Chips from disk as they are: number type and values unchanged, and an error for anything less than a whole image."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from rsft.errors import DataError
from rsft.imagery.contract import Pixels

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_FIX = "copy or download the file again, or leave it out"
_EXPANDED = {"1": "L", "P": "RGB", "PA": "RGBA"}  # Pillow modes that hold bits or palette indices, not grey values

logging.getLogger("rasterio").addHandler(logging.NullHandler())  # what GDAL logs comes back as an exception


def read_chip(path: Path) -> Pixels:
    """Read an image whole: (H, W, B), bands in R, G, B order where there are three.

    Raises:
        DataError: the file is absent, empty, cut short or no image; every pixel has one value; a pixel is NaN.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path, _FIX) from error
    if not data:
        raise DataError("the file is empty", path, _FIX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing georeference, odd tags and large images
        pixels = _read_tiff(data, path) if data.startswith(_TIFF_MAGIC) else _decode(data, path)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    _check_values(pixels, path)
    return pixels


def _read_tiff(data: bytes, path: Path) -> Pixels:
    try:
        with MemoryFile(data) as memory, memory.open() as file:  # rasterio opens no path that is not UTF-8
            if ColorInterp.palette in file.colorinterp:
                raise DataError("the pixels are indices into a palette", path, "convert the file to grey or RGB")
            bands: Pixels = file.read()  # (B, H, W)
    except RasterioError as error:
        raise DataError("the file is cut short or damaged", path, _FIX) from error
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def _decode(data: bytes, path: Path) -> Pixels:
    """Everything but TIFF. Pillow is strict about missing bytes, which OpenCV fills in."""
    try:
        image = Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError("the file is not an image that can be read", path, _FIX) from error
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError("the file is cut short or damaged", path, _FIX) from error
    if data.startswith(_PNG_MAGIC):
        if _PNG_END not in data:
            raise DataError("the file is cut short or damaged", path, _FIX)
        if data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):  # bit depth, which Pillow halves without a word
            return _decode_png16(data, path)
    return np.asarray(image.convert(_EXPANDED[image.mode]) if image.mode in _EXPANDED else image)


def _decode_png16(data: bytes, path: Path) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError("the file is cut short or damaged", path, _FIX)
    return np.concatenate([pixels[:, :, 2::-1], pixels[:, :, 3:]], axis=2)  # from OpenCV's B, G, R


def _check_values(pixels: Pixels, path: Path) -> None:
    if np.issubdtype(pixels.dtype, np.inexact):
        missing = int(np.isnan(pixels).sum())
        if missing:
            raise DataError(f"{missing} of {pixels.size} values are NaN", path, "fill them in, or leave the file out")
    low, high = pixels.min(), pixels.max()
    if low == high:
        raise DataError(f"every pixel is {low}", path, "leave the file out")
