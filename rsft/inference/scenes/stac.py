"""Read STAC items: which assets are the scene, and what the item says about their pixels.

The rules are those of STAC 1.0 and 1.1 with the extensions raster, eo and sar (https://stacspec.org). pystac does not
merge the two versions of the description of a band, which is most of the work here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.rasters import IDENTITY_SCALING, Scaling, parse_band_name, unit_from_tags
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RequestError
from rsft.utils.remote_files import probe_url, quote_url, read_url
from rsft.utils.untrusted.documents import parse_json, read_regular

_MAX_BYTES = 1 << 24
_JSON_SUFFIXES = (".json", ".geojson")
_RASTER_TYPES = (
    "image/",
    "application/x-hdf",
    "application/netcdf",
    "application/x-netcdf",
    "application/octet-stream",
)
_COLORS = {"red": "R", "green": "G", "blue": "B"}  # eo:common_name
_REMOTE_SCHEMES = ("http://", "https://", "s3://", "gs://", "az://")
_KINDS: dict[type, str] = {dict: "objects", str: "texts"}


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
    item = _load(uri)
    if item is None:
        if asset is not None:
            raise RequestError("--asset is for STAC items", uri, "leave out --asset, or give the item")
        return None
    names = _select_assets(item, asset, uri)
    assets = [item["assets"][name] for name in names]
    for name, content in zip(names, assets, strict=True):
        _check_asset(name, content, uri)
    bands = tuple(band for name, content in zip(names, assets, strict=True) for band in _read_bands(name, content))
    polarizations = (item.get("properties") or {}).get("sar:polarizations") or []
    if len(bands) == len(polarizations) == 1 and bands[0].name is None:
        bands = (bands[0]._replace(name=parse_band_name(str(polarizations[0]))),)
    unit = unit_from_tags([band.unit for band in bands], uri)
    return StacScene(tuple(names), tuple(_resolve(uri, content["href"]) for content in assets), bands, unit)


def _load(uri: SceneUri) -> dict[str, Any] | None:
    """Return the item; None if the scene is not JSON."""
    suffix = Path(uri.name).suffix.lower()
    if uri.url == uri.gdal_name.removeprefix("/vsicurl/") and uri.url is not None:
        if suffix not in _JSON_SUFFIXES:
            remote = probe_url(uri.url)
            if remote is None or not remote.head.lstrip().startswith(b"{"):
                return None
        data = read_url(uri.url, _MAX_BYTES)
    elif uri.is_path and suffix in _JSON_SUFFIXES and Path(uri.text).exists():
        try:
            data = read_regular(Path(uri.text))
        except OSError as error:
            raise DataError(f"the item cannot be read: {error.strerror}", uri, "give a STAC item") from error
    else:
        return None
    try:
        item = parse_json(data)
    except ValueError as error:
        raise DataError(f"the JSON cannot be read: {error}", uri, "give a STAC item") from error
    kind = item.get("type") if isinstance(item, dict) else None
    if kind != "Feature" or not isinstance(item.get("assets"), dict):
        raise DataError(f"the JSON is {kind or 'something else'}, not a STAC item", uri, "give one item, not a catalog")
    _check_types(item, uri)
    return dict(item)


def _check_types(item: Mapping[str, Any], uri: SceneUri) -> None:
    """Check the types of the values that are read from an item.

    Raises:
        DataError: a value has another type.
    """
    parts = {name: content for name, content in item["assets"].items() if isinstance(content, dict)}
    if not isinstance(item.get("properties") or {}, dict):
        raise DataError("the properties are not an object", uri, "give a STAC item")
    for name, content in (parts | {"properties": item.get("properties") or {}}).items():
        for key in ("roles", "sar:polarizations", "eo:bands", "raster:bands", "bands"):
            values, kind = content.get(key) or [], dict if "bands" in key else str
            if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
                raise DataError(f"{key} of {name} is not a list of {_KINDS[kind]}", uri, "correct the item")


def _select_assets(item: Mapping[str, Any], asset: str | None, uri: SceneUri) -> list[str]:
    """Return the names of the assets to open."""
    assets: dict[str, Any] = {name: content for name, content in item["assets"].items() if isinstance(content, dict)}
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
    if len(names) == 1:
        return names
    bands = [[band.name for band in _read_bands(name, assets[name])] for name in names]
    polarizations = [found[0] for found in bands if len(found) == 1 and found[0] in POLARIZATIONS]
    if len(set(polarizations)) == len(names):  # one file per polarization
        return names
    raise RequestError(
        f"the item has {len(names)} data assets: {', '.join(names)}", uri, "choose with --asset NAME, or NAME,NAME"
    )


def _check_asset(name: str, content: Mapping[str, Any], uri: SceneUri) -> None:
    media_type = content.get("type")
    if not isinstance(content.get("href"), str) or not content["href"]:
        raise DataError(f"the asset {name} has no href", uri, "choose another one with --asset")
    if isinstance(media_type, str) and not media_type.lower().startswith(_RASTER_TYPES):
        raise DataError(f"the asset {name} is {media_type}, not a raster", uri, "choose another one with --asset")


def _read_bands(name: str, content: Mapping[str, Any]) -> list[StacBand]:
    """Describe the bands of an asset; without any description, the asset has one band if its name is that of a band."""
    lists = [content.get(key) or [] for key in ("eo:bands", "raster:bands", "bands")]
    count = max(len(entries) for entries in lists)
    polarizations = content.get("sar:polarizations") or []
    if not count and not polarizations and parse_band_name(name) is None:
        return []
    merged: list[dict[str, Any]] = [dict(content) | {"name": None} for _ in range(count or len(polarizations) or 1)]
    for entries in lists:
        for target, entry in zip(merged, entries, strict=False):
            target.update(entry)
    names = [_band_name(band) for band in merged]
    if len(polarizations) == len(merged):
        names = [known or parse_band_name(str(text)) for known, text in zip(names, polarizations, strict=True)]
    if len(merged) == 1:
        names = [names[0] or parse_band_name(name)]
    return [_make_band(known, band) for known, band in zip(names, merged, strict=True)]


def _band_name(band: Mapping[str, Any]) -> str | None:
    color = band.get("eo:common_name") or band.get("common_name")
    return parse_band_name(str(band["name"])) if band.get("name") else _COLORS.get(str(color))


def _make_band(name: str | None, band: Mapping[str, Any]) -> StacBand:
    scale = _number(band, "raster:scale", "scale")
    offset = _number(band, "raster:offset", "offset")
    scaling = Scaling(1.0 if scale is None else scale, offset or 0.0)
    spacing = _number(band, "raster:spatial_resolution", "spatial_resolution")
    unit = band.get("unit")
    return StacBand(name, str(unit) if unit else None, scaling, _number(band, "nodata", "raster:nodata"), spacing)


def _number(band: Mapping[str, Any], *keys: str) -> float | None:
    """Return the first value under the keys; STAC writes NaN as "nan"."""
    for key in keys:
        try:
            if band.get(key) is not None:
                return float(band[key])
        except (TypeError, ValueError):
            continue
    return None


def _resolve(uri: SceneUri, href: str) -> SceneUri:
    """Return where an asset is; a relative href is relative to the item."""
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
    names = tuple(band.name for band in item.bands if band.name is not None)
    is_named = len(set(names)) == len(item.bands)
    spacing = item.bands[0].spacing_m
    return BandDescription(
        bands=stored.bands or (names if is_named else None),
        scalings=tuple(_merge(own, band, uri) for own, band in zip(stored.scalings, item.bands, strict=True)),
        nodata=tuple(band.nodata if own is None else own for own, band in zip(stored.nodata, item.bands, strict=True)),
        spacing=stored.spacing or (None if spacing is None else (spacing, spacing)),
    )


def _merge(stored: Scaling, band: StacBand, uri: SceneUri) -> Scaling:
    """Return scale and offset of the file, or of the item if the file has none."""
    if IDENTITY_SCALING not in (stored, band.scaling) and stored != band.scaling:
        message = f"the item says scale {band.scaling.scale:g} and offset {band.scaling.offset:g}, but the file says"
        raise DataError(f"{message} {stored.scale:g} and {stored.offset:g}", uri, "download the asset, and correct it")
    return band.scaling if stored == IDENTITY_SCALING else stored
