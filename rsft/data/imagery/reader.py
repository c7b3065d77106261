"""Read image files without changing values.

float64 becomes float32. An incomplete image is an error.
"""

import hashlib
import io
import struct
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.units import as_float32
from rsft.errors import DataError
from rsft.types import Pixels, Size
from rsft.utils.cell.client import in_cell
from rsft.utils.untrusted.documents import check_regular, open_regular, read_regular

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
RASTER_SUFFIXES = (
    ".tif",
    ".tiff",
    ".img",
    ".jp2",
    ".ntf",
    ".nitf",
    ".png",
    ".jpg",
    ".jpeg",
    ".nc",
    ".h5",
    ".hdf5",
)
"""Suffixes of the scenes in a folder; a file that is named may have any."""
MAX_PIXELS = 2**30
"""Largest number of pixels of an image, except for TIFF. DOTA has images of 20,000 x
20,000; Pillow's own limit is 179 million pixels."""
MAX_CHIP_BYTES = 2**31
"""Largest file of a chip in bytes: 2 GiB. It is read as a whole."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
_HINT = "copy or download the file again, or leave it out"
_EXPANDED = {"1": "L", "P": "RGB", "PA": "RGBA"}
"""Modes of Pillow whose values are bits or indices into a palette, not gray values."""
_DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error)
_ORIENTATION = ExifTags.Base.Orientation
_pillow_limit = threading.Lock()


def is_tiff(path: Path) -> bool:
    """Return whether a file begins as a TIFF, even if its other parts are missing."""
    try:
        with open_regular(path) as file:
            return file.read(4) in _TIFF_MAGIC
    except OSError:
        return False


def check_declared_bands(
    declared: Sequence[str] | None, actual: Sequence[str] | None, path: object
) -> None:
    """Raise an error if declared names contradict those in the file.

    "gray" contradicts no name, and a name that rsft does not know contradicts none
    either.

    Args:
        declared: names that the user declared with --bands; None if none were declared.
        actual: names in the file; None if it has none.
        path: path of the file.

    Raises:
        DataError: a band has another name in the file.
    """
    if declared is None or actual is None or len(declared) != len(actual):
        return  # a wrong number is another error
    for pair in zip(declared, actual, strict=True):
        name, file_name = pair
        if name != file_name and name in BANDS and "gray" not in pair:
            raise DataError(
                f"the file names its bands {', '.join(actual)}, not"
                f" {', '.join(declared)}",
                path,
                "leave out --bands; if the names in the file are wrong, correct them"
                " there",
            )


@in_cell
def read_chip(path: Path, digest: str | None = None) -> Pixels:
    """Read an image file.

    What a GeoTIFF declares as nodata, or masks, becomes NaN in floats and 0 in
    integers. Its scale and offset give float32.

    Args:
        path: the file.
        digest: its SHA-256 in a manifest, if it was read before.

    Returns:
        Pixels (H, W, B), float32 instead of float64; three bands are in R, G, B order.

    Raises:
        DataError: the file is missing, empty, truncated, larger than MAX_CHIP_BYTES or
            not an image; it is stored inverted or turned; all pixels have the same
            value; a pixel is NaN or infinite but not declared as nodata; a value does
            not fit into float32; it is not the file with this digest.
    """
    try:
        data = read_regular(path, MAX_CHIP_BYTES)
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", path, _HINT
        ) from error
    if not data:
        raise DataError("the file is empty", path, _HINT)
    is_intact = digest is not None and hashlib.sha256(data).hexdigest() == digest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing georeferences and unusual tags
        try:
            if data.startswith(_TIFF_MAGIC):
                pixels = _decode_tiff(data, path)
            else:
                pixels = _decode(data, path, is_intact)
        except _DECODING_ERRORS as error:
            raise DataError("the file is truncated or damaged", path, _HINT) from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    check_values(pixels, path)
    if digest is not None and not is_intact:
        raise DataError("the file differs from the manifest", path)
    return as_float32(pixels, path)


class ImageHeader(NamedTuple):
    """What the header of an image says, in the words of Pillow.

    Attributes:
        format: such as "PNG".
        mode: such as "L", "RGB" or "LA".
        size: height and width.
        bands: number of bands.
    """

    format: str
    mode: str
    size: Size
    bands: int


@in_cell
def read_image_header(path: Path) -> ImageHeader:
    """Read the header of an image, see `open_image`."""
    with open_image(path) as image:
        count = len(image.getbands())
        return ImageHeader(image.format or "", image.mode, image.size[::-1], count)


def open_image(path: Path, data: bytes | None = None) -> Image.Image:
    """Open an image with Pillow, which only reads its header.

    Pillow's own limit is a global variable. It is raised while a header is read, by one
    thread at a time, and then restored. Other code that uses Pillow at that moment has
    the raised limit too.

    Args:
        path: the file.
        data: its content, if that is in memory already.

    Returns:
        The image, which is not decoded yet.

    Raises:
        DataError: the file is not an image, or has more than MAX_PIXELS.
    """
    with _pillow_limit, warnings.catch_warnings():
        # Pillow raises an error at twice its limit only
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        default = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            if data is None:
                check_regular(path)
            return Image.open(path if data is None else io.BytesIO(data))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(
                f"the image is too large: it has more than {MAX_PIXELS:,} pixels",
                path,
                "cut it into smaller ones, or leave it out",
            ) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                "the file is not an image that can be read", path, _HINT
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = default


def _decode_tiff(data: bytes, path: Path) -> Pixels:
    # GDAL takes 20 MB, which a job without a TIFF does without
    from rsft.data.imagery.rasters import read_tiff

    pixels = read_tiff(data, path)
    _check_upright(_read_tiff_orientation(data), path)
    return pixels


def _read_tiff_orientation(data: bytes) -> int | None:
    """Return the tag Orientation of a TIFF, which GDAL ignores."""
    tags = ImageFileDirectory_v2(data[:16] if b"+" in data[:4] else data[:8])
    # the directory has these bytes of the tag in the order of the file
    entry = b"\x12\x01\x03\0" if data.startswith(b"I") else b"\x01\x12\0\x03"
    if entry not in data[tags.next : tags.next + 4096]:
        return None  # reading all tags takes longer
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    return int(tags.get(_ORIENTATION, 1))


def _check_upright(orientation: int | None, path: Path) -> None:
    """Raise an error if the EXIF orientation of an image is not 1.

    Programs disagree about where the first row of such an image is.
    """
    if orientation not in (None, 1):
        raise DataError(
            f"the pixels are stored turned (EXIF orientation {orientation})",
            path,
            "turn the pixels, and remove the tag: magick IN -auto-orient OUT",
        )


def _decode(data: bytes, path: Path, is_intact: bool) -> Pixels:
    """Decode any format except TIFF with Pillow, which reports missing bytes.

    GDAL fills them in silently.
    """
    image = open_image(path, data)
    if is_intact and _is_plain_png(image, data):
        from rsft.data.imagery.rasters import read_png

        with suppress(ValueError):
            return read_png(data)  # of a damaged end, Pillow ignores more
    image.load()
    if image.info:
        _check_upright(image.getexif().get(_ORIENTATION), path)
    if data.startswith(_PNG_MAGIC):
        if data.rfind(_PNG_END) < 0:  # search from the end, where the marker is
            raise ValueError("the PNG has no end")
        if data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):
            from rsft.data.imagery.rasters import read_png

            return read_png(data)  # Pillow only reads 8 of 16 bits
    if image.mode in _EXPANDED:
        image = image.convert(_EXPANDED[image.mode])
    return np.asarray(image)


def _is_plain_png(image: Image.Image, data: bytes) -> bool:
    """Return whether an image is a PNG of bytes without more, which GDAL decodes."""
    is_large = image.width * image.height >= 2**16  # GDAL opens slowly
    if not is_large or image.format != "PNG" or image.info:
        return False
    is_upright = b"eXIf" not in data[data.rfind(b"IDAT") :]
    return data[24] == 8 and image.mode in ("L", "RGB") and is_upright


def check_values(pixels: Pixels, path: object) -> None:
    """Raise an error if an image has no content.

    Raises:
        DataError: no pixel has a value, or all pixels have the same value.
    """
    valid = pixels
    if np.issubdtype(pixels.dtype, np.inexact):
        valid = pixels[~np.isnan(pixels)]
    if not valid.size:
        raise DataError("no pixel has a value", path, "leave the file out")
    low = valid.min()
    if low == valid.max():
        raise DataError(f"every pixel is {low}", path, "leave the file out")
