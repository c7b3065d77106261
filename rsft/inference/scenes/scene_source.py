"""Find the rasters of a scene, and report in words why one cannot be read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rasterio.errors import RasterioError

from rsft.data.imagery.products.safe_folder import SafeFolder, find_safe_folder
from rsft.data.imagery.raster_files import ForeignFilesError
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, NetworkError, RequestError, RsftError
from rsft.inference.scenes.stac import StacScene, read_stac_scene
from rsft.utils.remote_files import probe_url
from rsft.utils.untrusted.regular_files import check_regular

_AGAIN = "run the same command again: it resumes"
_RASTER_SUFFIXES = (".tif", ".tiff", ".img", ".jp2", ".ntf", ".nitf", ".png", ".jpg", ".nc", ".h5", ".hdf5")
_HTTP_OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,  # seconds
    "GDAL_HTTP_LOW_SPEED_LIMIT": 500,  # bytes per second
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,  # seconds, doubled before each further attempt
}


class SceneSource(NamedTuple):
    """The rasters of a scene.

    Attributes:
        uri: name of the scene.
        files: names under which GDAL opens the rasters.
        safe_folder: the Sentinel-1 product to which they belong, if any.
        item: the STAC item that names them, if any.
    """

    uri: SceneUri
    files: tuple[str, ...]
    safe_folder: SafeFolder | None
    item: StacScene | None


def find_scene_source(uri: SceneUri, asset: str | None = None) -> SceneSource:
    """Find the rasters of a scene.

    Args:
        uri: a raster, a Sentinel-1 product, a zip archive with one of them, or a STAC item.
        asset: names of the assets of a STAC item; None takes its data assets.

    Returns:
        The rasters.

    Raises:
        DataError: the scene does not exist, or is not what its name says.
        RequestError: an archive or an item contains several scenes.
        NetworkError: a web server does not send the scene.
    """
    item = read_stac_scene(uri, asset)
    if item is not None:
        for file in item.files:
            _check_exists(file)
        return SceneSource(uri, tuple(file.gdal_name for file in item.files), None, item)
    path = Path(uri.text) if uri.is_path else None
    safe_folder = None if path is None else find_safe_folder(path)
    if path is not None and safe_folder is not None:
        uri = SceneUri(str(path.parent)) if path.name == "manifest.safe" else uri
        return SceneSource(uri, safe_folder.gdal_paths, safe_folder, None)
    _check_exists(uri)
    is_archive = path is not None and path.suffix.lower() == ".zip"
    return SceneSource(uri, (_raster_in_archive(uri) if is_archive else uri.gdal_name,), None, None)


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


def http_options() -> dict[str, int]:
    """Return GDAL's options for reading from web servers, except those that the environment sets."""
    return {name: value for name, value in _HTTP_OPTIONS.items() if name not in os.environ}


def opening_error(uri: SceneUri, error: Exception) -> RsftError:
    """Return the error for a scene that GDAL cannot open.

    Args:
        uri: the scene.
        error: what rasterio raised.
    """
    if uri.is_remote and uri.url is None:
        hint = "check the address, the network, and the credentials of the bucket, such as AWS_PROFILE"
        return NetworkError(f"GDAL cannot open the scene: {error}", uri, hint)
    if isinstance(error, ForeignFilesError):
        hint = "convert it on a machine where it may be read: gdal_translate IN OUT.tif"
        return DataError(str(error), uri, hint)
    hint = "give a GeoTIFF, COG, NITF or ENVI; convert other formats: gdal_translate IN OUT.tif"
    if uri.gdal_name.startswith("/vsizip/{/vsicurl/"):
        hint = f"an archive on a server may contain one file; else name the raster in it: {uri.gdal_name}/NAME.tif"
    return DataError("GDAL cannot read the scene", uri, hint)


def reading_error(uri: SceneUri, files: Sequence[str], error: RasterioError) -> RsftError:
    """Return the error for a window that cannot be read: of the network, which stops the job, or of the file.

    Args:
        uri: the scene.
        files: names of its rasters.
        error: what rasterio raised.
    """
    for name in files:
        file = SceneUri(name)
        if file.url is not None:
            try:
                _check_exists(file)
            except RsftError as cause:
                return NetworkError(f"the scene can no longer be read: {cause.message}", uri, _AGAIN)
        elif file.is_remote:
            return NetworkError(f"the scene can no longer be read: {error}", uri, _AGAIN)
    return DataError("the file is truncated or damaged", uri, "copy the file again")
