"""Read windows of a scene in its unit."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from tempfile import TemporaryFile, gettempdir
from typing import Any

import numpy as np
from rasterio.windows import Window

from rsft.data.imagery import rasters
from rsft.data.imagery.raster_values import mask_nodata, read_validity, to_float32
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RsftError
from rsft.scenes.georeference import ignore_georeference_warnings
from rsft.scenes.raster import PixelWindow, RasterScene, check_exists
from rsft.types import Pixels
from rsft.utils.cell.client import in_cell

_log = logging.getLogger(__name__)

_MAX_AREA = 2**20  # values of all bands
_NO_AREA = PixelWindow(0, 0, -1, -1), np.zeros(0)
_AGAIN = "run the same command again: it resumes"

ReadPixels = tuple[Pixels, int]
"""Pixels of a window, and how many of their values were clipped."""


class SceneReader:
    """Reads windows of a scene, with one open handle per thread and file.

    Args:
        scene: the scene.
        bands: indices of the bands to read, from 0 and in order (default: all bands).
    """

    def __init__(self, scene: RasterScene, bands: Sequence[int] | None = None) -> None:
        self.scene = scene
        self.indices = list(range(scene.count)) if bands is None else list(bands)
        self._thread = threading.local()

    def __call__(self, window: PixelWindow) -> Pixels:
        """Return the pixels (H, W, B) of a window, see `read`."""
        return self.read(window)[0]

    def read(self, window: PixelWindow) -> ReadPixels:
        """Read a window in the unit of the scene.

        The window may extend beyond the edge of the scene.

        Returns:
            Pixels (H, W, B), which are 0 in integers and NaN in floats without data,
            and the number of values below the thermal noise, which the calibration
            raised to its smallest value.

        Raises:
            DataError: the file is damaged, or contains NaN that it does not declare as
                no data.
            NetworkError: a server no longer sends the scene.
        """
        scene = self.scene
        top = max(window.top, 0)
        left = max(window.left, 0)
        bottom = min(window.bottom, scene.height)
        right = min(window.right, scene.width)
        fill_value = np.nan if np.issubdtype(scene.dtype, np.inexact) else 0
        shape = (*window.size, len(self.indices))
        pixels = np.full(shape, fill_value, scene.dtype)
        if top >= bottom or left >= right:
            return pixels, 0
        inside, clipped = self._read_inside(PixelWindow(top, left, bottom, right))
        rows = slice(top - window.top, bottom - window.top)
        cols = slice(left - window.left, right - window.left)
        pixels[rows, cols] = inside
        return pixels, clipped

    def _read_inside(self, window: PixelWindow) -> ReadPixels:
        """Do the same for a window inside of the scene."""
        if not hasattr(self._thread, "read"):
            self._thread.read = open_windows(self.scene, self.indices)
        result: ReadPixels = self._thread.read(*window)
        return result

    def close(self) -> None:
        """Close the handles of all threads."""
        self._thread = threading.local()


class AreaReader(SceneReader):
    """Reads windows that lie together at once, and keeps their area.

    A call of the cell takes longer than to read a small chip. Windows are read one by
    one if they are calibrated, because each has its number of values below the thermal
    noise; and after a fault, which may be that of a single window.
    """

    def __init__(self, scene: RasterScene, bands: Sequence[int]) -> None:
        super().__init__(scene, bands)
        self._has_areas = scene.calibrations is None

    def read(self, window: PixelWindow) -> ReadPixels:
        area, pixels = getattr(self._thread, "area", _NO_AREA)
        if not area.contains(window):
            return super().read(window)
        rows = slice(window.top - area.top, window.bottom - area.top)
        cols = slice(window.left - area.left, window.right - area.left)
        return pixels[rows, cols].copy(), 0

    def read_ahead(self, windows: Iterable[PixelWindow]) -> None:
        """Read the first windows that lie together, unless the first one is here."""
        following = iter(windows)
        first = area = next(following)
        is_here = getattr(self._thread, "area", _NO_AREA)[0].contains(first)
        if is_here or not self._has_areas:
            return
        largest = _MAX_AREA // len(self.indices)
        total = math.prod(first.size)
        for window in following:
            joined = area.join(window)
            total += math.prod(window.size)
            if math.prod(joined.size) > min(largest, 2 * total):
                break
            area = joined
        if area == first:
            return
        try:
            self._thread.area = area, super().read(area)[0]
        except DataError:
            self._has_areas = False


class CopyingReader(SceneReader):
    """Reads the pixels of a scene on a server once, and then those of a copy.

    The first windows must cover the scene without overlap. The copy is a temporary file
    without a name, which ends with the reader. Values below the thermal noise are not
    counted.

    Args:
        scene: the scene.
        bands: indices of the bands to read.
    """

    def __init__(self, scene: RasterScene, bands: Sequence[int]) -> None:
        super().__init__(scene, bands)
        self._file = TemporaryFile()  # noqa: SIM115 `close` closes it
        self._has_room = True
        self._missing = scene.height * scene.width  # pixels

    def _read_inside(self, window: PixelWindow) -> ReadPixels:
        if not self._missing:
            shape = (*self.scene.size, len(self.indices))
            copy = np.memmap(self._file, self.scene.dtype, "r", 0, shape)
            return np.array(
                copy[window.top : window.bottom, window.left : window.right]
            ), 0
        pixels, clipped = super()._read_inside(window)
        try:
            if self._has_room:
                self._write(window, pixels)
        except OSError as error:
            self._has_room = False
            _log.warning(
                "no copy of %s in %s, so it is fetched twice: %s; TMPDIR names another"
                " folder",
                self.scene.path,
                gettempdir(),
                error,
            )
        return pixels, clipped

    def _write(self, window: PixelWindow, pixels: Pixels) -> None:
        for row, line in enumerate(pixels, window.top):
            self._file.seek((row * self.scene.width + window.left) * line[0].nbytes)
            self._file.write(line.tobytes())
        self._file.flush()
        self._missing -= math.prod(window.size)

    def close(self) -> None:
        super().close()
        self._file.close()


@in_cell
def open_windows(
    scene: RasterScene, bands: Sequence[int]
) -> Callable[[int, int, int, int], ReadPixels]:
    """Open the files of a scene.

    Args:
        scene: the scene.
        bands: indices of the bands to read.

    Returns:
        Takes top, left, bottom and right of a window inside of the scene, and returns
        what `SceneReader.read` returns.
    """
    return _Windows(scene, bands)


class _Windows:
    """The open files of a scene."""

    def __init__(self, scene: RasterScene, bands: Sequence[int]) -> None:
        self.scene = scene
        self.indices = bands
        with ignore_georeference_warnings():
            self._files = [rasters.open_raster(name) for name in scene.files]

    def __call__(self, top: int, left: int, bottom: int, right: int) -> ReadPixels:
        window = Window(left, top, right - left, bottom - top)
        try:
            return self._read(window)
        except rasters.GDAL_ERRORS as error:
            raise _reading_error(self.scene, error) from error

    def _read(self, window: Window) -> ReadPixels:
        scene = self.scene
        bands, masks = self._read_stored(window)
        clipped = 0
        calibrations = scene.calibrations
        for number, index in enumerate(self.indices):
            nodata = scene.nodata[index]
            mask = masks[number]
            if scene.dtype == scene.stored_dtype and not calibrations:
                mask_nodata(bands[number], nodata, scene.path, mask)
                continue
            values = to_float32(
                bands[number], nodata, scene.scalings[index], scene.path, mask
            )
            if calibrations:
                calibrate = calibrations[index]
                values, count = calibrate(values, window.row_off, window.col_off)
                clipped += count
            bands[number] = values
        return np.stack(bands, axis=2), clipped

    def _read_stored(self, window: Window) -> tuple[list[Any], list[Any]]:
        """Return the stored values of each band, and which of them are valid."""
        files = self._files
        if len(files) == 1:
            numbers = [index + 1 for index in self.indices]
            bands = list(files[0].read(numbers, window=window))
            return bands, [read_validity(files[0], window)] * len(bands)
        read = [files[index] for index in self.indices]
        bands = [file.read(1, window=window) for file in read]
        return bands, [read_validity(file, window) for file in read]


def _reading_error(scene: RasterScene, error: Exception) -> RsftError:
    """Return the error for a window that cannot be read.

    A fault of the network stops the job, one of the file does not.
    """
    for file in map(SceneUri, scene.files):
        reason = str(error)
        if file.url:
            try:
                check_exists(file)
                continue
            except RsftError as cause:
                reason = cause.message
        elif not file.is_remote:
            continue
        message = f"the scene can no longer be read: {reason}"
        return NetworkError(message, scene.path, _AGAIN)
    message = "the file is truncated or damaged"
    return DataError(message, scene.path, "copy the file again")
