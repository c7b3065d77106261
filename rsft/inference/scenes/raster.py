"""Find the rasters of a scene, and read windows of them. A scene is never read as a whole."""

import os
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rsft.data.imagery import reader
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import Calibration, Product, find_product, read_product
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RequestError, RsftError
from rsft.inference.scenes.georeference import Georeference, read_georeference
from rsft.inference.scenes.stac import BandDescription, StacScene, describe_bands, read_stac_scene
from rsft.types import Pixels
from rsft.utils.remote_files import probe_url
from rsft.utils.untrusted.documents import check_regular

GDAL_CACHE_MB = 256
"""Size of GDAL's cache of decoded blocks. GDAL's default is 5 % of the machine's memory."""

_READ_SIDE = 2048  # approximate side in pixels of the windows that cover a scene
_AGAIN = "run the same command again: it resumes"
_RASTER_SUFFIXES = (".tif", ".tiff", ".img", ".jp2", ".ntf", ".nitf", ".png", ".jpg", ".nc", ".h5", ".hdf5")
_HTTP_OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,  # seconds
    "GDAL_HTTP_LOW_SPEED_LIMIT": 500,  # bytes per second
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds, doubled before each further attempt
}


class PixelWindow(NamedTuple):
    """A rectangle of a scene in pixels: `bottom` and `right` are the row and the column after the last ones."""

    top: int
    left: int
    bottom: int
    right: int


class SceneWindow(NamedTuple):
    """Pixels of a window.

    Attributes:
        pixels: (H, W, B). Pixels without data are 0 in integers and NaN in floats.
        clipped: number of values below the thermal noise, which the calibration raised to its smallest value.
    """

    pixels: Pixels
    clipped: int = 0


@dataclass(frozen=True, eq=False)
class RasterScene:
    """A raster that GDAL can open, or several rasters of one product with one band each.

    Attributes:
        path: where the raster or the product is.
        height: number of rows.
        width: number of columns.
        count: number of bands.
        dtype: data type of the values that `SceneReader` returns: "uint8", "uint16" or "float32".
        bands: names of the bands; None unless all bands have names that rsft knows.
        block_shape: height and width of the blocks in which the file is stored.
        georeference: georeference of the scene; None if the file has none.
        spacing: pixel spacing at the center in meters, along columns and along rows; None without georeference.
        files: names of the datasets that GDAL opens: `path`, or the rasters of the product with one band each.
        stored_dtype: data type in the file, such as "uint16" or "complex64".
        scalings: scale and offset of each band.
        nodata: stored value of pixels without data, of each band; None if it has none.
        product: what the file says about its pixels.
        unit: unit of the values that `SceneReader` returns; None if it is unknown.
        assets: names of the assets of a STAC item; empty for other scenes.
    """

    path: SceneUri
    height: int
    width: int
    count: int
    dtype: str
    bands: tuple[str, ...] | None
    block_shape: tuple[int, int]
    georeference: Georeference | None
    spacing: tuple[float, float] | None
    files: tuple[str, ...]
    stored_dtype: str
    scalings: tuple[reader.Scaling, ...]
    nodata: tuple[float | None, ...]
    product: Product
    unit: str | None
    assets: tuple[str, ...] = ()

    @property
    def calibrations(self) -> tuple[Calibration, ...] | None:
        """Calibration of each band to `unit`; None if `unit` is that of the stored values."""
        return None if self.unit is None else self.product.calibrations.get(self.unit)

    @property
    def is_converted(self) -> bool:
        """Whether the values that `SceneReader` returns differ from the stored ones."""
        return self.dtype != self.stored_dtype or self.calibrations is not None

    def in_unit(self, unit: str | None) -> Self:
        """Return a copy whose values are read in a unit.

        A unit to which the product has no calibration is taken for that of the stored values.
        """
        dtype = "float32" if unit in self.product.calibrations else reader.read_dtype(self.stored_dtype, self.scalings)
        return replace(self, unit=unit, dtype=dtype)

    def as_stored(self) -> Self:
        """Return a copy whose values are read as they are stored, without scale and offset, as digital numbers."""
        return replace(self, unit=None, dtype=self.stored_dtype)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem.removesuffix(".SAFE")

    def windows(self) -> Iterator[PixelWindow]:
        """Cover the scene with windows of whole blocks, row by row."""
        block_height, block_width = self.block_shape
        width = max(1, round(_READ_SIDE / block_width)) * block_width
        height = max(1, round(_READ_SIDE**2 / width / block_height)) * block_height
        for top in range(0, self.height, height):
            for left in range(0, self.width, width):
                yield PixelWindow(top, left, min(top + height, self.height), min(left + width, self.width))

    def block_index(self, row: float, col: float) -> tuple[int, int]:
        """Return row and column of the block with a pixel. Chips in the order of blocks decode each block only once."""
        return int(row // self.block_shape[0]), int(col // self.block_shape[1])


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
        self._handles: list[Any] = []  # open handles of all threads

    def __call__(self, window: PixelWindow) -> Pixels:
        """Return the pixels (H, W, B) of a window, see `read`."""
        return self.read(window).pixels

    def read(self, window: PixelWindow) -> SceneWindow:
        """Read a window, which may extend beyond the edge of the scene, in the unit of the scene.

        Raises:
            DataError: the file is damaged, or contains NaN that it does not declare as no data.
            NetworkError: a server no longer sends the scene.
        """
        scene, clipped = self.scene, 0
        top, left = max(window.top, 0), max(window.left, 0)
        bottom, right = min(window.bottom, scene.height), min(window.right, scene.width)
        fill_value = np.nan if np.issubdtype(scene.dtype, np.inexact) else 0
        shape = (window.bottom - window.top, window.right - window.left, len(self.indices))
        pixels = np.full(shape, fill_value, scene.dtype)
        if top < bottom and left < right:
            inside, clipped = self._read(Window(left, top, right - left, bottom - top))
            pixels[top - window.top : bottom - window.top, left - window.left : right - window.left] = inside
        return SceneWindow(pixels, clipped)

    def _read(self, window: Window) -> SceneWindow:
        scene = self.scene
        try:
            files = self._files()
            if len(files) == 1:
                bands = list(files[0].read([index + 1 for index in self.indices], window=window))
            else:
                bands = [files[index].read(1, window=window) for index in self.indices]
        except (RasterioError, CPLE_BaseError) as error:
            raise _reading_error(scene, error) from error
        clipped = 0
        for number, index in enumerate(self.indices):
            nodata = scene.nodata[index]
            if not scene.is_converted:
                reader.mask_nodata(bands[number], nodata, scene.path)
                continue
            bands[number] = reader.to_float32(bands[number], nodata, scene.scalings[index], scene.path)
            if scene.calibrations is not None:
                bands[number], count = scene.calibrations[index](bands[number], window.row_off, window.col_off)
                clipped += count
        return SceneWindow(np.stack(bands, axis=2), clipped)

    def _files(self) -> list[Any]:
        """Return the handles of the current thread."""
        if not hasattr(self._thread, "files"):
            with ignore_georeference_warnings():
                self._thread.files = [reader.open_raster(name) for name in self.scene.files]
            self._handles += self._thread.files
        files: list[Any] = self._thread.files
        return files

    def close(self) -> None:
        """Close the handles of all threads."""
        for handle in self._handles:
            handle.close()
        self._handles.clear()


def open_scene(name: SceneUri | Path | str, options: ProductOptions = DEFAULT_OPTIONS) -> RasterScene:
    """Read the header of a scene.

    Args:
        name: a raster; a product that `rsft.data.imagery.products` recognizes, such as a .SAFE folder of Sentinel-1 or
            the zip archive it comes in; any name that GDAL opens, such as a URL or a subdataset; or a STAC item.
        options: how its values are read.

    Returns:
        The scene.

    Raises:
        DataError: the scene does not exist, GDAL cannot read the raster, it has no bands, more than `MAX_BANDS` or a
            color palette, its values are complex, or the rasters of the scene differ in size.
        RequestError: an option contradicts the raster, or the name stands for several scenes.
        NetworkError: a server does not send the scene.
    """
    uri = SceneUri.parse(name)
    item, product = read_stac_scene(uri, options.asset), None
    if item is not None:
        for file in item.files:
            _check_exists(file)
        files = tuple(file.gdal_name for file in item.files)
    elif uri.is_path and (product := find_product(Path(uri.text))) is not None:
        uri, files = SceneUri(str(product.path)), product.files
    else:
        _check_exists(uri)
        is_archive = uri.is_path and uri.text.lower().endswith(".zip")
        files = (_raster_in_archive(uri) if is_archive else uri.gdal_name,)
    try:
        with ignore_georeference_warnings(), ExitStack() as stack:
            handles = [stack.enter_context(reader.open_raster(file)) for file in files]
            _check_rasters(handles, uri, item)
            scene = _describe(uri, handles, files, item, read_product(uri, handles, product, options))
            return scene.in_unit("sigma0" if options.factor else scene.unit)
    except (RasterioError, CPLE_BaseError, UnicodeEncodeError) as error:
        raise _opening_error(uri, error) from error


def _check_rasters(handles: Sequence[Any], uri: SceneUri, item: StacScene | None) -> None:
    if not handles[0].count:
        names = ", ".join(handles[0].subdatasets[:5]) + (", ..." if len(handles[0].subdatasets) > 5 else "")
        hint = f"give one of them: {names}" if names else "give one of the rasters in it"
        raise DataError("the raster has no bands, only other rasters", uri, hint)
    if (count := sum(file.count for file in handles)) > reader.MAX_BANDS:
        message = f"the raster has {count:,} bands; the limit is {reader.MAX_BANDS:,}"
        raise DataError(message, uri, "write the bands that the model reads to a file of their own")
    if any(ColorInterp.palette in file.colorinterp for file in handles):
        raise DataError("the pixels are indices into a color palette", uri, "convert the file to gray or RGB")
    if len({(file.shape, file.dtypes) for file in handles}) > 1:
        if item:
            message = f"the assets {', '.join(item.assets)} differ in size or data type"
            raise DataError(message, uri, "choose one of them with --asset")
        message = "the rasters of the product differ in size or data type, for instance because of several swaths"
        raise DataError(message, uri, f"give one of its files, such as {SceneUri(handles[0].name).name}")


def _describe(
    uri: SceneUri, handles: Sequence[Any], files: tuple[str, ...], item: StacScene | None, product: Product
) -> RasterScene:
    first, names = handles[0], [reader.read_band_names(file) for file in handles]
    bands = None if None in names else tuple(name for file_names in names for name in file_names or ())
    georeference = read_georeference(first)
    description = describe_bands(
        item,
        BandDescription(
            bands=product.bands or bands,
            scalings=tuple(
                reader.Scaling(*pair) for file in handles for pair in zip(file.scales, file.offsets, strict=True)
            ),
            nodata=tuple(value for file in handles for value in file.nodatavals),
            spacing=georeference.spacing_at(first.height / 2, first.width / 2) if georeference else None,
        ),
        uri,
    )
    product = replace(product, unit=product.unit or (item.unit if item else None))
    return RasterScene(
        path=uri,
        height=first.height,
        width=first.width,
        count=sum(file.count for file in handles),
        dtype=reader.read_dtype(first.dtypes[0], description.scalings),
        block_shape=first.block_shapes[0],
        georeference=georeference,
        files=files,
        stored_dtype=first.dtypes[0],
        product=product,
        unit=product.unit,
        assets=item.assets if item else (),
        **description._asdict(),
    )


def _check_exists(uri: SceneUri) -> None:
    if uri.url is not None:
        remote = probe_url(uri.url)
        if remote is None:
            return
        if remote.size == 0:
            raise DataError("the file is empty", uri, "check the address")
        if remote.head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            hint = "open the address in a browser: it may be the page of the file, or ask for a login"
            raise DataError("the server sent a web page, not a raster", uri, hint)
        if not remote.sends_ranges:
            raise DataError("the server does not send parts of a file", uri, "download the file, and give its path")
    elif not uri.is_remote and not (uri.path is not None and os.access(uri.path, os.R_OK)):
        raise DataError("no such scene", uri, "check the path")
    elif uri.path is not None:
        try:
            check_regular(uri.path)
        except OSError as error:
            raise DataError(f"the scene cannot be read: {error.strerror}", uri, "give a file") from error


def _raster_in_archive(uri: SceneUri) -> str:
    """Return the name of the only raster in a zip archive."""
    try:
        with zipfile.ZipFile(uri.text) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(_RASTER_SUFFIXES)]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"the archive cannot be read: {error}", uri, "copy or download it again") from error
    members = [f"/vsizip/{{{Path(uri.text).absolute()}}}/{name}" for name in names]
    if not members:
        raise DataError("the archive contains no raster", uri, "unpack it, and give the scene in it")
    if len(members) > 1:
        listing = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
        raise RequestError(f"the archive contains {len(members)} rasters", uri, f"give one of them: {listing}")
    return members[0]


def _opening_error(uri: SceneUri, error: Exception) -> RsftError:
    """Return the error for a scene that GDAL cannot open."""
    if uri.is_remote and uri.url is None:
        hint = "check the address, the network, and the credentials of the bucket, such as AWS_PROFILE"
        return NetworkError(f"GDAL cannot open the scene: {error}", uri, hint)
    if isinstance(error, reader.ForeignFilesError):
        hint = "convert it on a machine where it may be read: gdal_translate IN OUT.tif"
        return DataError(str(error), uri, hint)
    hint = "give a GeoTIFF, COG, NITF or ENVI; convert other formats: gdal_translate IN OUT.tif"
    if uri.gdal_name.startswith("/vsizip/{/vsicurl/"):
        hint = f"an archive on a server may contain one file; else name the raster in it: {uri.gdal_name}/NAME.tif"
    return DataError("GDAL cannot read the scene", uri, hint)


def _reading_error(scene: RasterScene, error: Exception) -> RsftError:
    """Return the error for a window that cannot be read: of the network, which stops the job, or of the file."""
    for name in scene.files:
        file = SceneUri(name)
        if file.url is not None:
            try:
                _check_exists(file)
            except RsftError as cause:
                return NetworkError(f"the scene can no longer be read: {cause.message}", scene.path, _AGAIN)
        elif file.is_remote:
            return NetworkError(f"the scene can no longer be read: {error}", scene.path, _AGAIN)
    return DataError("the file is truncated or damaged", scene.path, "copy the file again")


def gdal_environment() -> rasterio.Env:
    """Return the GDAL environment for reading scenes, a context manager."""
    options = {name: value for name, value in _HTTP_OPTIONS.items() if name not in os.environ}
    return rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="FALSE", **options)


@contextmanager
def ignore_georeference_warnings() -> Iterator[None]:
    """Ignore rasterio's warnings about files without georeference; the notes of a job report them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
