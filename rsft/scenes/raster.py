"""Open a scene: find its rasters, also by a STAC item, and describe them.

A scene is never read as a whole.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import rasterio

from rsft.data.chips.class_names import list_first_names
from rsft.data.imagery import rasters
from rsft.data.imagery.band_names import read_band_names
from rsft.data.imagery.products.calibration import Calibration
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import (
    Product,
    find_product,
    read_product,
)
from rsft.data.imagery.raster_values import (
    IDENTITY_SCALING,
    Scaling,
    check_encoding,
    read_dtype,
)
from rsft.data.imagery.reader import is_tiff
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import parse_unit
from rsft.errors import DataError, NetworkError, RequestError, RsftError
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.documents import Item, ItemBand, read_item
from rsft.scenes.georeference import (
    Georeference,
    ignore_georeference_warnings,
    read_georeference,
    rectangle_corners,
)
from rsft.scenes.options import ChipOptions
from rsft.types import Bands, JsonObject, Names, Size, Spacing
from rsft.utils.cell.client import in_cell
from rsft.utils.remote_files import probe_url
from rsft.utils.untrusted.documents import check_regular

GDAL_CACHE_MB = 256
"""Size of GDAL's cache of decoded blocks. GDAL's default is 5 % of the machine's
memory."""

_READ_SIDE = 2048  # approximate side in pixels of the windows that cover a scene
_HTTP_OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,  # seconds
    "GDAL_HTTP_LOW_SPEED_LIMIT": 500,  # bytes per second
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds, doubled before each further attempt
}
_CONVERT = "gdal_translate IN OUT.tif, on a machine where GDAL may read them"
_LISTED = 5  # names in a message


class PixelWindow(NamedTuple):
    """A rectangle of a scene in pixels.

    `bottom` and `right` are the row and the column after the last ones.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def is_inside(self, height: int, width: int) -> bool:
        """Return whether the window lies inside of a scene of this size."""
        return PixelWindow(0, 0, height, width).contains(self)

    def contains(self, other: "PixelWindow") -> bool:
        """Return whether another window lies inside of this one."""
        return self.join(other) == self

    def join(self, other: "PixelWindow") -> "PixelWindow":
        """Return the smallest window that contains both."""
        return PixelWindow(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def overlaps(self, other: "PixelWindow") -> bool:
        """Return whether two windows share a pixel."""
        rows = self.top < other.bottom and other.top < self.bottom
        return rows and self.left < other.right and other.left < self.right


@dataclass(frozen=True, eq=False)
class RasterScene:
    """A raster that GDAL can open, or several rasters of one product.

    Those of a product have one band each.

    Attributes:
        path: where the raster or the product is.
        count: number of bands.
        dtype: data type of the values that `SceneReader` returns: "uint8", "uint16" or
            "float32".
        bands: names of the bands; None unless all bands have names that rsft knows.
        block_shape: height and width of the blocks in which the file is stored.
        spacing: pixel spacing at the center in meters, along columns and along rows;
            None without georeference.
        files: names of the datasets that GDAL opens: `path`, or the rasters of the
            product with one band each.
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
    bands: Bands | None
    block_shape: Size
    georeference: Georeference | None
    spacing: Spacing | None
    files: Names
    stored_dtype: str
    scalings: tuple[Scaling, ...]
    nodata: tuple[float | None, ...]
    product: Product
    unit: str | None
    assets: Names = ()

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    @property
    def calibrations(self) -> tuple[Calibration, ...] | None:
        """Calibration of each band to `unit`; None if stored values have this unit."""
        return self.product.calibrations.get(self.unit or "")

    def in_unit(self, unit: str | None) -> Self:
        """Return a copy whose values are read in a unit.

        Without a calibration to it, it is that of the stored values.
        """
        dtype = read_dtype(self.stored_dtype, self.scalings)
        if unit in self.product.calibrations:
            dtype = "float32"
        return replace(self, unit=unit, dtype=dtype)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem.removesuffix(".SAFE")

    def record(self) -> JsonObject:
        """Return what is known about the pixels that are read, as JSON values.

        Returns:
            The known values of scene, product, unit, calibration, noise, acquired, pass
            and incidence_deg (the smallest and the largest incidence angle at the
            corners).
        """
        product = self.product
        calibrated = self.calibrations is not None
        record: JsonObject = {
            "scene": self.name,
            "product": product.kind,
            "unit": self.unit,
            "calibration": product.calibration_source if calibrated else None,
            "noise": product.noise if calibrated else None,
            "acquired": product.acquired,
            "pass": product.pass_direction,
        }
        if product.incidence:
            corners = rectangle_corners(0, 0, self.height, self.width)
            angles = product.incidence(*corners.T)
            extremes = float(angles.min()), float(angles.max())
            record["incidence_deg"] = [round(angle, 2) for angle in extremes]
        return {key: value for key, value in record.items() if value}

    def windows(self) -> Iterator[PixelWindow]:
        """Cover the scene with windows of whole blocks, row by row."""
        block_height, block_width = self.block_shape
        width = max(1, round(_READ_SIDE / block_width)) * block_width
        height = max(1, round(_READ_SIDE**2 / width / block_height)) * block_height
        for top in range(0, self.height, height):
            for left in range(0, self.width, width):
                bottom = min(top + height, self.height)
                right = min(left + width, self.width)
                yield PixelWindow(top, left, bottom, right)


@in_cell
def open_scene(
    name: SceneUri | Path | str, options: ProductOptions = DEFAULT_OPTIONS
) -> RasterScene:
    """Read the header of a scene.

    Args:
        name: a raster; a product that `rsft.data.imagery.products` recognizes, such as
            a .SAFE folder of Sentinel-1 or the zip archive it comes in; any name that
            GDAL opens, such as a URL or a subdataset; or a STAC item.
        options: how its values are read.

    Returns:
        The scene, in the unit of its values or calibrated to sigma0 by the options.

    Raises:
        DataError: the scene does not exist, GDAL cannot read the raster, it has no
            bands, more than `MAX_BANDS` or a color palette, its values are complex, the
            rasters of the scene differ in size, or the JSON is not an item.
        RequestError: an option contradicts the raster, or the name stands for several
            scenes.
        NetworkError: a server does not send the scene.
    """
    uri = SceneUri.parse(name)
    item = None
    product = find_product(Path(uri.text)) if uri.is_path else None
    if not product or options.asset:
        item = read_item(uri, options.asset)
    if item:
        product = None
        for file in item.files:
            check_exists(file)
        files = tuple(file.gdal_name for file in item.files)
    elif product:
        uri = SceneUri(str(product.path))
        files = product.files
    else:
        check_exists(uri)
        files = (uri.gdal_name,)
        if uri.is_path and uri.text.lower().endswith(".zip"):
            raise DataError(
                "the archive is no product of Sentinel-1 with images",
                uri,
                "unpack it, and give its folder; or name a raster in it:"
                " /vsizip/{FILE.zip}/NAME.tif",
            )
    try:
        with ignore_georeference_warnings(), ExitStack() as stack:
            handles = [stack.enter_context(rasters.open_raster(file)) for file in files]
            _check_rasters(handles, uri, item)
            described = read_product(uri, handles, product, options)
            scene = _describe(uri, handles, files, item, described)
    except rasters.GDAL_ERRORS as error:
        title = f" of {product.title}" if product else ""
        raise _opening_error(error, uri, title) from error
    is_calibrated = options.factor or options.gamma0_to_sigma0
    return scene.in_unit("sigma0" if is_calibrated else scene.unit)


def _opening_error(error: Exception, uri: SceneUri, title: str) -> RsftError:
    """Return the error for a scene that GDAL cannot open; `title` is of its product."""
    if uri.is_remote and not uri.url:
        hint = "check the address, the network, and the credentials of the bucket"
        return NetworkError(f"GDAL cannot open the scene: {error}", uri, hint)
    message = f"GDAL cannot read the scene{title} in a format that rsft allows"
    hint = (
        "give the folder of a product, or a GeoTIFF, COG, NITF or ENVI; other formats:"
        f" {_CONVERT}"
    )
    if isinstance(error, rasters.ForeignFilesError):
        message = str(error)
    elif uri.is_path and is_tiff(Path(uri.text)):
        message = "the GeoTIFF is truncated or damaged"
        hint = "copy or download the file again"
    return DataError(message, uri, hint)


def declare_unit(scene: RasterScene, unit: str) -> RasterScene:
    """Return a scene that is read in the unit that the user declares.

    Raises:
        RequestError: the declared unit contradicts the file.
    """
    unit = parse_unit(unit)
    known_unit = scene.product.unit
    calibrations = scene.product.calibrations
    is_stored = unit in (known_unit, scene.product.digital_unit)
    if not known_unit or is_stored or unit in calibrations:
        return scene.in_unit(unit)
    message = f"--unit {unit}, but the file declares {known_unit}"
    if calibrations:
        message += f", or {' or '.join(calibrations)} by its calibration"
    raise RequestError(
        message, scene.path, "leave out --unit: rsft chooses one that fits"
    )


def _check_rasters(handles: Sequence[Any], uri: SceneUri, item: Item | None) -> None:
    if not handles[0].count:
        names = list_first_names(handles[0].subdatasets, _LISTED)
        hint = f"give one of them: {names}"
        raise DataError("the raster has no bands, only other rasters", uri, hint)
    check_encoding(handles, uri)
    if len({(file.shape, file.dtypes) for file in handles}) == 1:
        return
    if item:
        raise DataError(
            f"the assets {', '.join(item.assets)} differ in size or data type",
            uri,
            "choose one of them with --read asset=NAME",
        )
    raise DataError(
        "the rasters of the product differ in size or data type, for instance because"
        " of several swaths",
        uri,
        f"give one of its files, such as {SceneUri(handles[0].name).name}",
    )


def _describe(
    uri: SceneUri,
    handles: Sequence[Any],
    files: Names,
    item: Item | None,
    product: Product,
) -> RasterScene:
    """Describe a scene by its files, and by its item where the files say nothing."""
    first = handles[0]
    scalings: list[Scaling] = []
    nodata = []
    for file in handles:
        scalings += map(Scaling, file.scales, file.offsets)
        nodata += file.nodatavals
    if item:
        product = replace(product, unit=product.unit or item.unit)
    georeference = read_georeference(first, product.tie_points)
    spacing = None
    if georeference:
        spacing = georeference.spacing_at(first.height / 2, first.width / 2)
    scene = RasterScene(
        path=uri,
        height=first.height,
        width=first.width,
        count=len(nodata),
        dtype=read_dtype(first.dtypes[0], scalings),
        bands=product.bands or _read_band_names(handles),
        block_shape=first.block_shapes[0],
        georeference=georeference,
        spacing=spacing,
        files=files,
        stored_dtype=first.dtypes[0],
        scalings=tuple(scalings),
        nodata=tuple(nodata),
        product=product,
        unit=product.unit,
        assets=item.assets if item else (),
    )
    return _add_bands(scene, item.bands) if item and item.bands else scene


def _read_band_names(handles: Sequence[Any]) -> Bands | None:
    """Return the names of the bands of all files; None unless all have names."""
    names: list[str] = []
    for file in handles:
        file_names = read_band_names(file)
        if file_names is None:
            return None
        names += file_names
    return tuple(names)


def _add_bands(scene: RasterScene, item_bands: Sequence[ItemBand]) -> RasterScene:
    """Return a scene with what its item says of bands where its files say nothing.

    Raises:
        DataError: item and files contradict each other.
    """
    if len(item_bands) != scene.count:
        raise DataError(
            f"the item describes {len(item_bands)} bands, but the asset has"
            f" {scene.count}",
            scene.path,
            "download the asset, and give its path",
        )
    scalings = []
    nodata = []
    for band, scaling, value in zip(
        item_bands, scene.scalings, scene.nodata, strict=True
    ):
        scalings.append(_merge_scalings(scaling, band.scaling, scene.path))
        nodata.append(band.nodata if value is None else value)
    names = [band.name for band in item_bands if band.name is not None]
    bands = scene.bands
    if bands is None and len(set(names)) == len(item_bands):
        bands = tuple(names)
    options = ChipOptions(spacing=item_bands[0].spacing_m)
    return replace(
        scene,
        dtype=read_dtype(scene.stored_dtype, scalings),
        bands=bands,
        spacing=resolve_spacing(scene.spacing, options),
        scalings=tuple(scalings),
        nodata=tuple(nodata),
    )


def _merge_scalings(stored: Scaling, described: Scaling, uri: SceneUri) -> Scaling:
    """Return the scaling of a band, which its file or its item states.

    Raises:
        DataError: they state different ones.
    """
    if stored == IDENTITY_SCALING:
        return described
    if described in (stored, IDENTITY_SCALING):
        return stored
    raise DataError(
        f"the item says scale {described.scale:g} and offset {described.offset:g}, but"
        f" the file says {stored.scale:g} and {stored.offset:g}",
        uri,
        "download the asset, and correct it",
    )


def check_exists(uri: SceneUri) -> None:
    """Raise an error if a scene does not exist, or its server does not send it.

    Raises:
        RequestError: there is no such file.
        DataError: it is no file, or a server sends something else.
        NetworkError: the server cannot be reached.
    """
    if uri.url:
        _check_url(uri, uri.url)
    elif uri.is_remote:
        return
    elif not uri.path or not os.access(uri.path, os.R_OK):
        raise RequestError("no such scene", uri, "check the path")
    else:
        try:
            check_regular(uri.path)
        except OSError as error:
            raise DataError(
                f"the scene cannot be read: {error.strerror}", uri, "give a file"
            ) from error


def _check_url(uri: SceneUri, url: str) -> None:
    remote = probe_url(url)
    if not remote:
        return
    if remote.size == 0:
        raise DataError("the file is empty", uri, "check the address")
    if remote.head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise DataError(
            "the server sent a web page, not a raster",
            uri,
            "open the address in a browser: it may be the page of the file, or ask for"
            " a login",
        )
    if not remote.sends_ranges:
        raise DataError(
            "the server does not send parts of a file",
            uri,
            "download the file, and give its path",
        )


def gdal_environment() -> rasterio.Env:
    """Return the GDAL environment for reading scenes, a context manager."""
    options = {
        name: value for name, value in _HTTP_OPTIONS.items() if name not in os.environ
    }
    return rasterio.Env(
        GDAL_CACHEMAX=GDAL_CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="FALSE", **options
    )
