"""Read image files without changing values. float64 becomes float32. An incomplete image is an error."""

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

from rsft.data.imagery.rasters import MAX_BANDS, mask_nodata
from rsft.data.imagery.units import as_float32
from rsft.errors import DataError
from rsft.types import Pixels
from rsft.utils.untrusted.documents import check_regular, read_regular

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
MAX_PIXELS = 2**30
"""Largest number of pixels of an image, except for TIFF. DOTA has images of 20,000 x 20,000; Pillow's own limit is
179 million pixels."""
MAX_TIFF_BYTES = 2**32
"""Largest size of a decoded TIFF in bytes: 4 GiB."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_HINT = "copy or download the file again, or leave it out"
_EXPANDED = {"1": "L", "P": "RGB", "PA": "RGBA"}  # Pillow modes of bits or palette indices, not gray values
_pillow_limit = threading.Lock()

logging.getLogger("rasterio").addHandler(logging.NullHandler())  # GDAL reports its errors as exceptions too


def read_chip(path: Path) -> Pixels:
    """Read an image file.

    The nodata value that a GeoTIFF declares becomes NaN in floats and 0 in integers.

    Args:
        path: path of the file.

    Returns:
        Pixels (H, W, B), float32 instead of float64; three bands are in R, G, B order.

    Raises:
        DataError: the file is missing, empty, truncated or not an image; all pixels have the same value; a pixel is NaN
            but NaN is not declared as nodata; a value does not fit into float32.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path, _HINT) from error
    if not data:
        raise DataError("the file is empty", path, _HINT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing georeferences and unusual tags
        try:
            pixels = _read_tiff(data, path) if data.startswith(_TIFF_MAGIC) else _decode(data, path)
        except (RasterioError, OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
            raise DataError("the file is truncated or damaged", path, _HINT) from error
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    check_values(pixels, path)
    return as_float32(pixels, path)


def open_image(path: Path, data: bytes | None = None) -> Image.Image:
    """Open an image with Pillow; only its header is read.

    Pillow's own limit is a global variable. It is raised while a header is read, by one thread at a time, and then
    restored. Other code that uses Pillow at that moment has the raised limit too.

    Args:
        path: path of the file.
        data: content of the file, if it is in memory already.

    Returns:
        The image, which is not decoded yet.

    Raises:
        DataError: the file is not an image, or has more than MAX_PIXELS.
    """
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow raises an error at twice its limit only
        default, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        try:
            if data is None:
                check_regular(path)
            return Image.open(path if data is None else io.BytesIO(data))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            message = f"the image is too large: it has more than {MAX_PIXELS:,} pixels"
            raise DataError(message, path, "cut it into smaller ones, or leave it out") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError("the file is not an image that can be read", path, _HINT) from error
        finally:
            Image.MAX_IMAGE_PIXELS = default


def _read_tiff(data: bytes, path: Path) -> Pixels:
    with MemoryFile(data) as memory, memory.open(driver="GTiff") as file:  # not the path, which may not be UTF-8
        if file.count > MAX_BANDS:
            message = f"the image has {file.count:,} bands; the limit is {MAX_BANDS:,}"
            raise DataError(message, path, "keep the bands that the model reads, or leave it out")
        if ColorInterp.palette in file.colorinterp:
            raise DataError("the pixels are indices into a palette", path, "convert the file to gray or RGB")
        if file.dtypes[0].startswith("complex"):
            hint = "give the scene that the chips were cut from, with --modulus, or store the modulus in the chips"
            raise DataError(f"the pixels are complex ({file.dtypes[0]}), but a model takes real values", path, hint)
        size = file.width * file.height * sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
        if size > MAX_TIFF_BYTES:  # a file of some kB can state any size
            message = f"the image is too large: {size:,} bytes when it is decoded; the limit is {MAX_TIFF_BYTES:,}"
            raise DataError(message, path, "cut it into smaller ones, or leave it out")
        bands: Pixels = file.read()  # (B, H, W)
        nodata_values = file.nodatavals
    for band, nodata in zip(bands, nodata_values, strict=True):
        mask_nodata(band, nodata, path)
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def _decode(data: bytes, path: Path) -> Pixels:
    """Decode any format except TIFF with Pillow, which reports missing bytes; OpenCV fills them in silently."""
    image = open_image(path, data)
    image.load()
    if data.startswith(_PNG_MAGIC):
        if data.rfind(_PNG_END) < 0:  # search from the end, where the marker is
            raise ValueError("the PNG has no end")
        if data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):  # 16 bits; Pillow reads only 8 of them
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is None:
                raise ValueError("OpenCV cannot read the PNG")
            return np.concatenate([pixels[:, :, 2::-1], pixels[:, :, 3:]], axis=2)  # from OpenCV's B, G, R
    return np.asarray(image.convert(_EXPANDED[image.mode]) if image.mode in _EXPANDED else image)


def check_values(pixels: Pixels, path: object) -> None:
    """Raise an error if an image has no content.

    Args:
        pixels: the image (H, W, B).
        path: path of the file, for the error.

    Raises:
        DataError: no pixel has a value, or all pixels have the same value.
    """
    valid = pixels[~np.isnan(pixels)] if np.issubdtype(pixels.dtype, np.inexact) else pixels
    if not valid.size:
        raise DataError("no pixel has a value", path, "leave the file out")
    low, high = valid.min(), valid.max()
    if low == high:
        raise DataError(f"every pixel is {low}", path, "leave the file out")
