"""Read STAC items: which assets are the scene, and what the item says about their pixels.

The rules are those of STAC 1.0 and 1.1 with the extensions raster, eo and sar (https://stacspec.org). pystac does not
merge the two versions of the description of a band, which is most of the work here.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.reader import IDENTITY_SCALING, Scaling, parse_band_name, unit_from_tags
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RequestError
from rsft.utils.remote_files import probe_url, quote_url, read_url
from rsft.utils.untrusted.documents import parse_json, read_regular

_MAX_BYTES = 1 << 24
_JSON_SUFFIXES = (".json", ".geojson")
_RASTER_TYPES = ("image/", *(f"application/{kind}" for kind in ("x-hdf", "netcdf", "x-netcdf", "octet-stream")))
_COLORS = {"red": "R", "green": "G", "blue": "B"}  # eo:common_name
_REMOTE_SCHEMES = ("http://", "https://", "s3://", "gs://", "az://")
_BANDS = ("eo:bands", "raster:bands", "bands")  # lists of bands in an asset, in the order in which they are merged


class StacBand(NamedTuple):
    """What an item says about a band.

    Attributes:
        name: name of the band; None if it is unknown.
        unit: unit as the item writes it; None if it does not say.
        scaling: scale and offset of the stored values.
        nodata: value of pixels without data; None if the item does not say.
        spacing_m: pixel spacing in meters; None if the item does not say.
    """

    name: str | None
    unit: str | None
    scaling: Scaling
    nodata: float | None
    spacing_m: float | None


class StacScene(NamedTuple):
    """The assets of an item that are opened as one scene.

    Attributes:
        assets: names of the assets.
        files: where they are.
        bands: what the item says about the bands of all assets, in order; empty if it does not describe bands.
        unit: unit of the pixels; None if the item does not say.
    """

    assets: tuple[str, ...]
    files: tuple[SceneUri, ...]
    bands: tuple[StacBand, ...]
    unit: str | None


def read_stac_scene(uri: SceneUri, asset: str | None = None) -> StacScene | None:
    """Read a STAC item.

    Args:
        uri: a scene: a JSON file, or an address that answers with JSON, is an item.
        asset: names of the assets to open, separated by commas; None takes the assets with the role "data".

    Returns:
        The assets; None if the scene is not JSON.

    Raises:
        DataError: the JSON is not an item, or an asset is not a raster.
        RequestError: the item has several data assets and `asset` does not choose one, or has no asset of this name.
        NetworkError: a web server does not send the item.
    """
    data = _read_json(uri)
    if data is None:
        if asset is not None:
            raise RequestError("--asset is for STAC items", uri, "leave out --asset, or give the item")
        return None
    assets, properties = _parse_item(data, uri)
    names = _select_assets(assets, asset, uri)
    bands = tuple(band for name in names for band in _read_bands(name, assets[name]))
    polarizations = properties.get("sar:polarizations") or []
    if len(bands) == len(polarizations) == 1 and bands[0].name is None:
        bands = (bands[0]._replace(name=parse_band_name(polarizations[0])),)
    files = tuple(_resolve(uri, name, assets[name]) for name in names)
    return StacScene(tuple(names), files, bands, unit_from_tags([band.unit for band in bands], uri))


def _read_json(uri: SceneUri) -> bytes | str | None:
    """Return the content of a scene that is JSON; None if it is not."""
    suffix = Path(uri.name).suffix.lower()
    if uri.url is not None and uri.url == uri.gdal_name.removeprefix("/vsicurl/"):
        remote = None if suffix in _JSON_SUFFIXES else probe_url(uri.url)
        if suffix in _JSON_SUFFIXES or (remote is not None and remote.head.lstrip().startswith(b"{")):
            return read_url(uri.url, _MAX_BYTES)
    elif uri.is_path and suffix in _JSON_SUFFIXES and Path(uri.text).exists():
        try:
            return read_regular(Path(uri.text))
        except OSError as error:
            raise DataError(f"the item cannot be read: {error.strerror}", uri, "give a STAC item") from error
    return None


def _parse_item(data: bytes | str, uri: SceneUri) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the assets and the properties of an item, after a check of the types of all values that are read."""
    try:
        item = parse_json(data)
    except ValueError as error:
        raise DataError(f"the JSON cannot be read: {error}", uri, "give a STAC item") from error
    kind = item.get("type") if isinstance(item, dict) else None
    if kind != "Feature" or not isinstance(item.get("assets"), dict):
        raise DataError(f"the JSON is {kind or 'something else'}, not a STAC item", uri, "give one item, not a catalog")
    properties = item.get("properties") or {}
    if not isinstance(properties, dict):
        raise DataError("the properties are not an object", uri, "give a STAC item")
    assets = {name: content for name, content in item["assets"].items() if isinstance(content, dict)}
    for name, content in (assets | {"properties": properties}).items():
        for key in ("roles", "sar:polarizations", *_BANDS):
            values, type_ = content.get(key) or [], dict if key in _BANDS else str
            if not isinstance(values, list) or not all(isinstance(value, type_) for value in values):
                expected = "objects" if key in _BANDS else "texts"
                raise DataError(f"{key} of {name} is not a list of {expected}", uri, "correct the item")
    return assets, properties


def _select_assets(assets: Mapping[str, dict[str, Any]], asset: str | None, uri: SceneUri) -> list[str]:
    """Return the names of the assets to open."""
    listing = ", ".join(assets) or "none"
    if asset is not None:
        names = [name.strip() for name in asset.split(",")]
        missing = [name for name in names if name not in assets]
        if missing:
            raise RequestError(f"the item has no asset {missing[0]}", uri, f"its assets are {listing}")
        return names
    names = [name for name, content in assets.items() if "data" in (content.get("roles") or [])]
    if not names:
        raise DataError("no asset of the item has the role data", uri, f"choose one with --asset: {listing}")
    bands = [[band.name for band in _read_bands(name, assets[name])] for name in names]
    polarizations = {band_names[0] for band_names in bands if len(band_names) == 1 and band_names[0] in POLARIZATIONS}
    if len(names) > 1 and len(polarizations) < len(names):  # else one file per polarization
        message = f"the item has {len(names)} data assets: {', '.join(names)}"
        raise RequestError(message, uri, "choose with --asset NAME, or NAME,NAME")
    return names


def _read_bands(name: str, content: Mapping[str, Any]) -> list[StacBand]:
    """Describe the bands of an asset; without any description, the asset has one band if its name is that of a band."""
    lists = [content.get(key) or [] for key in _BANDS]
    polarizations = content.get("sar:polarizations") or []
    count = max(map(len, lists)) or len(polarizations) or int(parse_band_name(name) is not None)
    bands = []
    for index in range(count):
        band = dict(content) | {"name": None}
        for entries in lists:
            band |= entries[index] if index < len(entries) else {}
        color = _COLORS.get(str(band.get("eo:common_name") or band.get("common_name")))
        band_name = parse_band_name(str(band["name"])) if band.get("name") else color
        if band_name is None and len(polarizations) == count:
            band_name = parse_band_name(polarizations[index])
        if band_name is None and count == 1:
            band_name = parse_band_name(name)
        scale = _number(band, "raster:scale", "scale")
        scaling = Scaling(1.0 if scale is None else scale, _number(band, "raster:offset", "offset") or 0.0)
        spacing = _number(band, "raster:spatial_resolution", "spatial_resolution")
        unit = str(band["unit"]) if band.get("unit") else None
        bands.append(StacBand(band_name, unit, scaling, _number(band, "nodata", "raster:nodata"), spacing))
    return bands


def _number(band: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first value under the keys; STAC writes NaN as "nan"."""
    for key in keys:
        with suppress(KeyError, TypeError, ValueError):
            return float(band[key])
    return None


def _resolve(uri: SceneUri, name: str, content: Mapping[str, Any]) -> SceneUri:
    """Return where an asset is, which must be a raster; a relative href is relative to the item."""
    href, media_type = content.get("href"), content.get("type")
    if not isinstance(href, str) or not href:
        raise DataError(f"the asset {name} has no href", uri, "choose another one with --asset")
    if isinstance(media_type, str) and not media_type.lower().startswith(_RASTER_TYPES):
        raise DataError(f"the asset {name} is {media_type}, not a raster", uri, "choose another one with --asset")
    if uri.is_path:
        if href.lower().startswith(_REMOTE_SCHEMES) or href.startswith("/vsi"):
            return SceneUri(href)
        target = SceneUri.parse(href).text
        candidates = [Path(uri.text).parent / name for name in (target, unquote(target))]
        return SceneUri(str(next((path for path in candidates if path.exists()), candidates[0])))
    address = href if href.lower().startswith(_REMOTE_SCHEMES) else urljoin(str(uri.url), quote_url(href))
    if not address.lower().startswith(_REMOTE_SCHEMES):
        raise DataError(f"the item on a server names a file that is not on a server: {href}", uri, "download the scene")
    return SceneUri(address)


class BandDescription(NamedTuple):
    """What is known about the bands of a scene.

    Attributes:
        bands: names of the bands; None if they are unknown.
        scalings: scale and offset of each band.
        nodata: stored value of pixels without data, of each band; None if it has none.
        spacing: pixel spacing in meters, along columns and along rows; None if it is unknown.
    """

    bands: tuple[str, ...] | None
    scalings: tuple[Scaling, ...]
    nodata: tuple[float | None, ...]
    spacing: tuple[float, float] | None


def describe_bands(item: StacScene | None, stored: BandDescription, uri: SceneUri) -> BandDescription:
    """Add to the description in the files what only the item says.

    Args:
        item: the item; None returns the description in the files.
        stored: the description in the files.
        uri: the item, for errors.

    Returns:
        The description in the files, or of the item where the files say nothing.

    Raises:
        DataError: file and item contradict each other.
    """
    if item is None or not item.bands:
        return stored
    if len(item.bands) != len(stored.nodata):
        message = f"the item describes {len(item.bands)} bands, but the asset has {len(stored.nodata)}"
        raise DataError(message, uri, "download the asset, and give its path")
    scalings = []
    for own, band in zip(stored.scalings, item.bands, strict=True):
        if IDENTITY_SCALING not in (own, band.scaling) and own != band.scaling:
            message = (
                f"the item says scale {band.scaling.scale:g} and offset {band.scaling.offset:g}, but the file says"
            )
            raise DataError(f"{message} {own.scale:g} and {own.offset:g}", uri, "download the asset, and correct it")
        scalings.append(band.scaling if own == IDENTITY_SCALING else own)
    names = tuple(band.name for band in item.bands if band.name is not None)
    spacing = item.bands[0].spacing_m
    return BandDescription(
        bands=stored.bands or (names if len(set(names)) == len(item.bands) else None),
        scalings=tuple(scalings),
        nodata=tuple(band.nodata if own is None else own for own, band in zip(stored.nodata, item.bands, strict=True)),
        spacing=stored.spacing or (None if spacing is None else (spacing, spacing)),
    )
