"""Find the rasters of a scene, also by a STAC item, and read windows of them.

A scene is never read as a whole.

STAC 1.0 and 1.1 are read with the extensions raster, eo and sar (https://stacspec.org).
pystac does not merge the two versions of the description of a band, which is most of
the work here.
"""

import os
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urljoin

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsft.data.imagery import rasters
from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import (
    Calibration,
    Product,
    find_product,
    read_product,
)
from rsft.data.imagery.reader import is_tiff
from rsft.data.imagery.scene_uri import SceneUri
from rsft.data.imagery.units import parse_unit
from rsft.errors import DataError, NetworkError, RequestError, RsftError
from rsft.scenes.georeference import (
    Georeference,
    ignore_georeference_warnings,
    read_georeference,
    rectangle_corners,
)
from rsft.types import Pixels
from rsft.utils.remote_files import check_host, probe_url, quote_url, read_url
from rsft.utils.untrusted.documents import check_regular, parse_json, read_regular

GDAL_CACHE_MB = 256
"""Size of GDAL's cache of decoded blocks. GDAL's default is 5 % of the machine's
memory."""

_READ_SIDE = 2048  # approximate side in pixels of the windows that cover a scene
_AGAIN = "run the same command again: it resumes"
RASTER_SUFFIXES = (
    ".tif",
    ".tiff",
    ".img",
    ".jp2",
    ".ntf",
    ".nitf",
    ".png",
    ".jpg",
    ".nc",
    ".h5",
    ".hdf5",
)
_HTTP_OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,  # seconds
    "GDAL_HTTP_LOW_SPEED_LIMIT": 500,  # bytes per second
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds, doubled before each further attempt
}

_MAX_BYTES = 1 << 24  # of a STAC item
_JSON_SUFFIXES = (".json", ".geojson")
_RASTER_TYPES = (
    "image/",
    *(
        f"application/{kind}"
        for kind in ("x-hdf", "netcdf", "x-netcdf", "octet-stream")
    ),
)
_COLORS = {"red": "R", "green": "G", "blue": "B"}  # eo:common_name
_REMOTE_SCHEMES = ("http://", "https://", "s3://", "gs://", "az://")
_BANDS = (
    "eo:bands",
    "raster:bands",
    "bands",
)  # lists of bands in an asset, in the order in which they are merged


class PixelWindow(NamedTuple):
    """A rectangle of a scene in pixels: `bottom` and `right` are the row and the column after the last ones."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, eq=False)
class RasterScene:
    """A raster that GDAL can open, or several rasters of one product with one band each.

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
    bands: tuple[str, ...] | None
    block_shape: tuple[int, int]
    georeference: Georeference | None
    spacing: tuple[float, float] | None
    files: tuple[str, ...]
    stored_dtype: str
    scalings: tuple[rasters.Scaling, ...]
    nodata: tuple[float | None, ...]
    product: Product
    unit: str | None
    assets: tuple[str, ...] = ()

    @property
    def calibrations(self) -> tuple[Calibration, ...] | None:
        """Calibration of each band to `unit`; None if `unit` is that of the stored values."""
        if self.unit is None:
            return None
        return self.product.calibrations.get(self.unit)

    def in_unit(self, unit: str | None) -> Self:
        """Return a copy whose values are read in a unit; without a calibration to it, it is that of stored values."""
        if unit in self.product.calibrations:
            dtype = "float32"
        else:
            dtype = rasters.read_dtype(self.stored_dtype, self.scalings)
        return replace(self, unit=unit, dtype=dtype)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem.removesuffix(".SAFE")

    def record(self) -> dict[str, Any]:
        """Return what is known about the pixels in the unit in which they are read, as JSON values.

        Returns:
            The known values of scene, product, unit, calibration, noise, acquired, pass
            and incidence_deg (the smallest and the largest incidence angle at the
            corners).
        """
        product = self.product
        calibrated = self.calibrations is not None
        record: dict[str, Any] = {
            "scene": self.name,
            "product": product.kind,
            "unit": self.unit,
            "calibration": product.calibration_source if calibrated else None,
            "noise": product.noise if calibrated else None,
            "acquired": product.acquired,
            "pass": product.pass_direction,
        }
        if product.incidence is not None:
            angles = product.incidence(
                *rectangle_corners(0, 0, self.height, self.width).T
            )
            record["incidence_deg"] = [
                round(float(angles.min()), 2),
                round(float(angles.max()), 2),
            ]
        return {key: value for key, value in record.items() if value}

    def windows(self) -> Iterator[PixelWindow]:
        """Cover the scene with windows of whole blocks, row by row."""
        block_height, block_width = self.block_shape
        width = max(1, round(_READ_SIDE / block_width)) * block_width
        height = max(1, round(_READ_SIDE**2 / width / block_height)) * block_height
        for top in range(0, self.height, height):
            for left in range(0, self.width, width):
                yield PixelWindow(
                    top,
                    left,
                    min(top + height, self.height),
                    min(left + width, self.width),
                )


class SceneReader:
    """Reads windows of a scene, with one open handle per thread and file.

    Args:
        scene: the scene.
        bands: indices of the bands to read, from 0 and in order (default: all bands).
    """

    def __init__(self, scene: RasterScene, bands: Sequence[int] | None = None) -> None:
        self.scene = scene
        if bands is None:
            self.indices = list(range(scene.count))
        else:
            self.indices = list(bands)
        self._thread = threading.local()
        self._handles: list[Any] = []  # open handles of all threads

    def __call__(self, window: PixelWindow) -> Pixels:
        """Return the pixels (H, W, B) of a window, see `read`."""
        return self.read(window)[0]

    def read(self, window: PixelWindow) -> tuple[Pixels, int]:
        """Read a window, which may extend beyond the edge of the scene, in the unit of the scene.

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
        clipped = 0
        top = max(window.top, 0)
        left = max(window.left, 0)
        bottom = min(window.bottom, scene.height)
        right = min(window.right, scene.width)
        if np.issubdtype(scene.dtype, np.inexact):
            fill_value = np.nan
        else:
            fill_value = 0
        shape = (
            window.bottom - window.top,
            window.right - window.left,
            len(self.indices),
        )
        pixels = np.full(shape, fill_value, scene.dtype)
        if top < bottom and left < right:
            inside, clipped = self._read(Window(left, top, right - left, bottom - top))
            pixels[
                top - window.top : bottom - window.top,
                left - window.left : right - window.left,
            ] = inside
        return pixels, clipped

    def _read(self, window: Window) -> tuple[Pixels, int]:
        scene = self.scene
        clipped = 0
        try:
            files = self._files()
            if len(files) == 1:
                bands = list(
                    files[0].read([index + 1 for index in self.indices], window=window)
                )
                masks = [rasters.read_validity(files[0], window)] * len(bands)
            else:
                bands = [files[index].read(1, window=window) for index in self.indices]
                masks = [
                    rasters.read_validity(files[index], window)
                    for index in self.indices
                ]
        except (RasterioError, CPLE_BaseError) as error:
            raise _reading_error(scene, error) from error
        for number, index in enumerate(self.indices):
            nodata = scene.nodata[index]
            if scene.dtype == scene.stored_dtype and scene.calibrations is None:
                rasters.mask_nodata(bands[number], nodata, scene.path, masks[number])
                continue
            scaling = scene.scalings[index]
            mask = masks[number]
            bands[number] = rasters.to_float32(
                bands[number], nodata, scaling, scene.path, mask
            )
            if scene.calibrations is not None:
                bands[number], count = scene.calibrations[index](
                    bands[number], window.row_off, window.col_off
                )
                clipped += count
        return np.stack(bands, axis=2), clipped

    def _files(self) -> Any:
        """Return the handles of the current thread."""
        if not hasattr(self._thread, "files"):
            with ignore_georeference_warnings():
                self._thread.files = [
                    rasters.open_raster(name) for name in self.scene.files
                ]
            self._handles += self._thread.files
        return self._thread.files

    def close(self) -> None:
        """Close the handles of all threads."""
        for handle in self._handles:
            handle.close()
        self._handles.clear()


_CONVERT = "gdal_translate IN OUT.tif, on a machine where GDAL may read them"


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
    product = find_product(Path(uri.text)) if uri.is_path else None
    if product is None or options.asset is not None:
        item = _read_item(uri, options.asset)
    else:
        item = None
    if item is not None:
        product = None
        for file in item.files:
            _check_exists(file)
        files = tuple(file.gdal_name for file in item.files)
    elif product is not None:
        uri = SceneUri(str(product.path))
        files = product.files
    else:
        _check_exists(uri)
        is_archive = uri.is_path and uri.text.lower().endswith(".zip")
        is_folder = uri.is_path and Path(uri.text).is_dir()
        files = (
            _only_raster(uri, is_archive) if is_archive or is_folder else uri.gdal_name,
        )
    try:
        with ignore_georeference_warnings(), ExitStack() as stack:
            handles = [stack.enter_context(rasters.open_raster(file)) for file in files]
            _check_rasters(handles, uri, item)
            scene = _describe(
                uri, handles, files, item, read_product(uri, handles, product, options)
            )
            return scene.in_unit(
                "sigma0" if options.factor or options.gamma0_to_sigma0 else scene.unit
            )
    except (RasterioError, CPLE_BaseError, UnicodeEncodeError) as error:
        if uri.is_remote and uri.url is None:
            hint = (
                "check the address, the network, and the credentials of the bucket,"
                " such as AWS_PROFILE"
            )
            raise NetworkError(
                f"GDAL cannot open the scene: {error}", uri, hint
            ) from error
        if isinstance(error, rasters.ForeignFilesError):
            hint = (
                "give the folder of its product, or one of the rasters that it lists;"
                " other formats: " + _CONVERT
            )
            raise DataError(str(error), uri, hint) from error
        if uri.is_path and is_tiff(Path(uri.text)):
            raise DataError(
                "the GeoTIFF is truncated or damaged",
                uri,
                "copy or download the file again",
            ) from error
        hint = (
            "give the folder of a product, or a GeoTIFF, COG, NITF or ENVI; other"
            f" formats: {_CONVERT}"
        )
        if uri.gdal_name.startswith("/vsizip/{/vsicurl/"):
            hint = (
                "an archive on a server may contain one file; else name the raster in"
                f" it: {uri.gdal_name}/NAME.tif"
            )
        title = f" of {product.title}" if product is not None else ""
        raise DataError(
            f"GDAL cannot read the scene{title} in a format that rsft allows", uri, hint
        ) from error


def declare_unit(scene: RasterScene, unit: str) -> RasterScene:
    """Return a scene that is read in the unit that the user declares.

    Raises:
        RequestError: the declared unit contradicts the file.
    """
    unit = parse_unit(unit)
    known_unit = scene.product.unit
    calibrations = scene.product.calibrations
    if known_unit not in (None, unit) and unit not in calibrations:
        if calibrations:
            calibrated = f", or {' or '.join(calibrations)} by its calibration"
        else:
            calibrated = ""
        raise RequestError(
            f"--unit {unit}, but the file declares {known_unit}{calibrated}",
            scene.path,
            "leave out --unit: rsft chooses one that fits",
        )
    return scene.in_unit(unit)


class _Band(NamedTuple):
    """What a STAC item says about a band; None if it does not.

    Its unit is written as in the item.
    """

    name: str | None
    unit: str | None
    scaling: rasters.Scaling
    nodata: float | None
    spacing_m: float | None


class _Item(NamedTuple):
    """The assets of a STAC item that are opened as one scene, and their bands, if it describes them."""

    assets: tuple[str, ...]
    files: tuple[SceneUri, ...]
    bands: tuple[_Band, ...]
    unit: str | None


def _check_rasters(handles: Sequence[Any], uri: SceneUri, item: _Item | None) -> None:
    if not handles[0].count:
        names = ", ".join(handles[0].subdatasets[:5]) + (
            ", ..." if len(handles[0].subdatasets) > 5 else ""
        )
        if names:
            hint = f"give one of them: {names}"
        else:
            hint = "give one of the rasters in it"
        raise DataError("the raster has no bands, only other rasters", uri, hint)
    rasters.check_encoding(handles, uri)
    if len({(file.shape, file.dtypes) for file in handles}) > 1:
        if item:
            message = f"the assets {', '.join(item.assets)} differ in size or data type"
            raise DataError(message, uri, "choose one of them with --asset")
        message = (
            "the rasters of the product differ in size or data type, for instance"
            " because of several swaths"
        )
        raise DataError(
            message,
            uri,
            f"give one of its files, such as {SceneUri(handles[0].name).name}",
        )


def _describe(
    uri: SceneUri,
    handles: Sequence[Any],
    files: tuple[str, ...],
    item: _Item | None,
    product: Product,
) -> RasterScene:
    """Describe a scene by its files, and by its item where the files say nothing."""
    first = handles[0]
    names = [rasters.read_band_names(file) for file in handles]
    bands = product.bands or (
        None
        if None in names
        else tuple(x for band_names in names for x in band_names or ())
    )
    scalings = [
        rasters.Scaling(*pair)
        for file in handles
        for pair in zip(file.scales, file.offsets, strict=True)
    ]
    nodata = [value for file in handles for value in file.nodatavals]
    georeference = read_georeference(first, product.tie_points)
    if georeference:
        spacing = georeference.spacing_at(first.height / 2, first.width / 2)
    else:
        spacing = None
    if item is not None and item.bands:
        if len(item.bands) != len(nodata):
            message = (
                f"the item describes {len(item.bands)} bands, but the asset has"
                f" {len(nodata)}"
            )
            raise DataError(message, uri, "download the asset, and give its path")
        for index, (stored, described) in enumerate(
            zip(scalings, [band.scaling for band in item.bands], strict=True)
        ):
            if stored == rasters.IDENTITY_SCALING:
                scalings[index] = described
            elif described not in (stored, rasters.IDENTITY_SCALING):
                message = (
                    f"the item says scale {described.scale:g} and offset"
                    f" {described.offset:g}, but the file says"
                )
                message += f" {stored.scale:g} and {stored.offset:g}"
                raise DataError(message, uri, "download the asset, and correct it")
        item_names = tuple(band.name for band in item.bands if band.name is not None)
        bands = bands or (
            item_names if len(set(item_names)) == len(item.bands) else None
        )
        nodata = [
            x.nodata if value is None else value
            for value, x in zip(nodata, item.bands, strict=True)
        ]
        spacing_m = item.bands[0].spacing_m
        spacing = spacing or (None if spacing_m is None else (spacing_m, spacing_m))
    product = replace(product, unit=product.unit or (item.unit if item else None))
    return RasterScene(
        path=uri,
        height=first.height,
        width=first.width,
        count=len(nodata),
        dtype=rasters.read_dtype(first.dtypes[0], scalings),
        bands=bands,
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


def _check_exists(uri: SceneUri) -> None:
    if uri.url is not None:
        remote = probe_url(uri.url)
        if remote is None:
            return
        if remote.size == 0:
            raise DataError("the file is empty", uri, "check the address")
        if remote.head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise DataError(
                "the server sent a web page, not a raster",
                uri,
                (
                    "open the address in a browser: it may be the page of the file, or ask"
                    " for a login"
                ),
            )
        if not remote.sends_ranges:
            raise DataError(
                "the server does not send parts of a file",
                uri,
                "download the file, and give its path",
            )
    elif not uri.is_remote and not (
        uri.path is not None and os.access(uri.path, os.R_OK)
    ):
        raise DataError("no such scene", uri, "check the path")
    elif uri.path is not None:
        try:
            check_regular(uri.path)
        except OSError as error:
            raise DataError(
                f"the scene cannot be read: {error.strerror}", uri, "give a file"
            ) from error


def _only_raster(uri: SceneUri, is_archive: bool) -> str:
    """Return the name of the only raster in a zip archive or in a folder."""
    title = "folder"
    names = []
    try:
        if is_archive:
            title = "archive"
            with zipfile.ZipFile(uri.text) as archive:
                prefix = f"/vsizip/{{{Path(uri.text).absolute()}}}/"
                names = [f"{prefix}{name}" for name in archive.namelist()]
        else:
            names = sorted(str(path) for path in Path(uri.text).iterdir())
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the {title} cannot be read: {error}", uri, "copy or download it again"
        ) from error
    members = [name for name in names if name.lower().endswith(RASTER_SUFFIXES)]
    if not members:
        if is_archive:
            hint = "unpack it, and give the scene in it"
        else:
            hint = "give the scene, or the folder of a product"
        raise DataError(f"the {title} contains no raster", uri, hint)
    if len(members) > 1:
        listing = ", ".join(members[:5]) + (", ..." if len(members) > 5 else "")
        raise RequestError(
            f"the {title} contains {len(members)} rasters",
            uri,
            f"give one of them: {listing}",
        )
    return members[0]


def _reading_error(scene: RasterScene, error: Exception) -> RsftError:
    """Return the error for a window that cannot be read: of the network, which stops the job, or of the file."""
    for file in map(SceneUri, scene.files):
        if file.url is not None:
            try:
                _check_exists(file)
            except RsftError as cause:
                return NetworkError(
                    f"the scene can no longer be read: {cause.message}",
                    scene.path,
                    _AGAIN,
                )
        elif file.is_remote:
            return NetworkError(
                f"the scene can no longer be read: {error}", scene.path, _AGAIN
            )
    return DataError(
        "the file is truncated or damaged", scene.path, "copy the file again"
    )


def gdal_environment() -> rasterio.Env:
    """Return the GDAL environment for reading scenes, a context manager."""
    options = {
        name: value for name, value in _HTTP_OPTIONS.items() if name not in os.environ
    }
    return rasterio.Env(
        GDAL_CACHEMAX=GDAL_CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="FALSE", **options
    )


def _read_item(uri: SceneUri, asset: str | None) -> _Item | None:
    """Read a scene that is a STAC item: a JSON file, or an address that answers with JSON; None for other scenes.

    Args:
        uri: the scene.
        asset: names of the assets to open, separated by commas; None takes the assets
            with the role "data".
    """
    data = None
    suffix = Path(uri.name).suffix.lower()
    if uri.url is not None and uri.url == uri.gdal_name.removeprefix("/vsicurl/"):
        if suffix in _JSON_SUFFIXES:
            remote = None
        else:
            remote = probe_url(uri.url)
        if suffix in _JSON_SUFFIXES or (
            remote is not None and remote.head.lstrip().startswith(b"{")
        ):
            data = read_url(uri.url, _MAX_BYTES)
    elif uri.is_path and suffix in _JSON_SUFFIXES and Path(uri.text).exists():
        try:
            data = read_regular(Path(uri.text), _MAX_BYTES)
        except OSError as error:
            raise DataError(
                f"the item cannot be read: {error.strerror}", uri, "give a STAC item"
            ) from error
    if data is None:
        if asset is not None:
            raise RequestError(
                "--asset is for STAC items", uri, "leave out --asset, or give the item"
            )
        return None
    assets, properties = _parse_item(data, uri)
    names = _select_assets(assets, asset, uri)
    bands = tuple(band for name in names for band in _read_bands(name, assets[name]))
    polarizations = properties.get("sar:polarizations") or []
    if len(bands) == len(polarizations) == 1 and bands[0].name is None:
        bands = (bands[0]._replace(name=rasters.parse_band_name(polarizations[0])),)
    files = tuple(_resolve(uri, name, assets[name]) for name in names)
    return _Item(
        tuple(names),
        files,
        bands,
        rasters.unit_from_tags([band.unit for band in bands], uri),
    )


def _parse_item(
    data: bytes | str, uri: SceneUri
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the assets and the properties of an item, after a check of the types of all values that are read."""
    try:
        item = parse_json(data)
    except ValueError as error:
        raise DataError(
            f"the JSON cannot be read: {error}", uri, "give a STAC item"
        ) from error
    kind = item.get("type") if isinstance(item, dict) else None
    if kind != "Feature" or not isinstance(item.get("assets"), dict):
        raise DataError(
            f"the JSON is {kind or 'something else'}, not a STAC item",
            uri,
            "give one item, not a catalog",
        )
    properties = item.get("properties") or {}
    if not isinstance(properties, dict):
        raise DataError("the properties are not an object", uri, "give a STAC item")
    assets = {
        name: content
        for name, content in item["assets"].items()
        if isinstance(content, dict)
    }
    for name, content in (assets | {"properties": properties}).items():
        for key in ("roles", "sar:polarizations", *_BANDS):
            values = content.get(key) or []
            type_ = dict if key in _BANDS else str
            if not isinstance(values, list) or not all(
                isinstance(value, type_) for value in values
            ):
                expected = "objects" if key in _BANDS else "texts"
                raise DataError(
                    f"{key} of {name} is not a list of {expected}",
                    uri,
                    "correct the item",
                )
    return assets, properties


def _select_assets(
    assets: Mapping[str, dict[str, Any]], asset: str | None, uri: SceneUri
) -> list[str]:
    """Return the names of the assets to open."""
    listing = ", ".join(assets) or "none"
    if asset is not None:
        names = [name.strip() for name in asset.split(",")]
        missing = [name for name in names if name not in assets]
        if missing:
            raise RequestError(
                f"the item has no asset {missing[0]}", uri, f"its assets are {listing}"
            )
        return names
    names = [
        name
        for name, content in assets.items()
        if "data" in (content.get("roles") or [])
    ]
    if not names:
        raise DataError(
            "no asset of the item has the role data",
            uri,
            f"choose one with --asset: {listing}",
        )
    bands = [[band.name for band in _read_bands(name, assets[name])] for name in names]
    polarizations = {
        band_names[0]
        for band_names in bands
        if len(band_names) == 1 and band_names[0] in POLARIZATIONS
    }
    if len(names) > 1 and len(polarizations) < len(
        names
    ):  # else one file per polarization
        raise RequestError(
            f"the item has {len(names)} data assets: {', '.join(names)}",
            uri,
            "choose with --asset NAME, or NAME,NAME",
        )
    return names


def _read_bands(name: str, content: Mapping[str, Any]) -> list[_Band]:
    """Describe the bands of an asset; without any description, the asset has one band if its name is that of a band."""
    lists = [content.get(key) or [] for key in _BANDS]
    parse = rasters.parse_band_name
    polarizations = content.get("sar:polarizations") or []
    count = max(map(len, lists)) or len(polarizations) or int(parse(name) is not None)
    bands = []
    for index in range(count):
        band = dict(content) | {"name": None}
        for entries in lists:
            band |= entries[index] if index < len(entries) else {}
        color = _COLORS.get(str(band.get("eo:common_name") or band.get("common_name")))
        if band.get("name"):
            band_name = parse(str(band["name"]))
        else:
            band_name = color
        if band_name is None and len(polarizations) == count:
            band_name = parse(polarizations[index])
        if band_name is None and count == 1:
            band_name = parse(name)
        scale = _number(band, "raster:scale", "scale")
        scaling = rasters.Scaling(
            1.0 if scale is None else scale,
            _number(band, "raster:offset", "offset") or 0.0,
        )
        spacing = _number(band, "raster:spatial_resolution", "spatial_resolution")
        unit = str(band["unit"]) if band.get("unit") else None
        bands.append(
            _Band(
                band_name,
                unit,
                scaling,
                _number(band, "nodata", "raster:nodata"),
                spacing,
            )
        )
    return bands


def _number(band: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first value under the keys; STAC writes NaN as "nan"."""
    for key in keys:
        with suppress(KeyError, TypeError, ValueError):
            return float(band[key])
    return None


def _resolve(uri: SceneUri, name: str, content: Mapping[str, Any]) -> SceneUri:
    """Return where an asset is, which must be a raster; a relative href is relative to the item."""
    href = content.get("href")
    media_type = content.get("type")
    if not isinstance(href, str) or not href:
        raise DataError(
            f"the asset {name} has no href", uri, "choose another one with --asset"
        )
    if isinstance(media_type, str) and not media_type.lower().startswith(_RASTER_TYPES):
        raise DataError(
            f"the asset {name} is {media_type}, not a raster",
            uri,
            "choose another one with --asset",
        )
    if uri.is_path:
        if href.lower().startswith(_REMOTE_SCHEMES) or href.startswith("/vsi"):
            check_host(SceneUri(href).url or "", "")
            return SceneUri(href)
        try:
            target = SceneUri.parse(href).text
        except RequestError as error:
            message = f"the asset {name} has no valid href: {error.message}"
            raise DataError(message, uri, "choose another one with --asset") from error
        candidates = [
            Path(uri.text).parent / name for name in (target, unquote(target))
        ]
        existing = [path for path in candidates if os.access(path, os.F_OK)]
        if not existing:
            message = f"the file of the asset {name} does not exist: {candidates[0]}"
            raise DataError(message, uri, "download it beside the item")
        if not existing[0].resolve().is_relative_to(Path(uri.text).parent.resolve()):
            message = (
                f"the asset {name} is a file outside of the item's folder:"
                f" {existing[0]}"
            )
            raise DataError(message, uri, "give this file itself, if it is yours")
        return SceneUri(str(existing[0]))
    if href.lower().startswith(_REMOTE_SCHEMES):
        address = href
    else:
        address = urljoin(str(uri.url), quote_url(href))
    if not address.lower().startswith(_REMOTE_SCHEMES):
        raise DataError(
            f"the item on a server names a file that is not on a server: {href}",
            uri,
            "download the scene",
        )
    check_host(address, str(uri.url))
    return SceneUri(address)
