"""Read a STAC item as a scene: which assets are opened, and what it says about them.

STAC 1.0 and 1.1 are read with the extensions raster, eo and sar (https://stacspec.org).
pystac does not merge the two versions of the description of a band, which is most of
the work here.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urljoin

from rsft.data.imagery.band_names import parse_band_name, unit_from_tags
from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.raster_values import Scaling
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import DataError, RequestError
from rsft.scenes.documents import Item, ItemBand
from rsft.utils.remote_files import check_host, probe_url, quote_url, read_url
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
# lists of bands in an asset, in the order in which they are merged
_BANDS = ("eo:bands", "raster:bands", "bands")
_OTHER_ASSET = "choose another one with --read asset=NAME"

Asset = Mapping[str, Any]
"""The object that describes an asset."""


class StacItem:
    """A STAC item: a JSON file, or an address that answers with JSON."""

    name: ClassVar = "stac"

    @classmethod
    def read(cls, uri: SceneUri, asset: str | None) -> Item | None:
        """Read a scene that is a STAC item; return None for other scenes.

        Args:
            uri: the scene.
            asset: names of the assets to open, separated by commas; None takes the
                assets with the role "data".

        Raises:
            DataError: the item is damaged, or an asset cannot be a scene.
            RequestError: the assets must be chosen.
            NetworkError: a server does not send the item.
        """
        data = _read_json(uri)
        if data is None:
            return None
        assets, properties = _parse_item(data, uri)
        names = _select_assets(assets, asset, uri)
        bands = []
        for name in names:
            bands += _read_bands(name, assets[name])
        polarizations = properties.get("sar:polarizations") or []
        if len(bands) == len(polarizations) == 1 and bands[0].name is None:
            bands = [bands[0]._replace(name=parse_band_name(polarizations[0]))]
        files = tuple(_resolve(uri, name, assets[name]) for name in names)
        unit = unit_from_tags([band.unit for band in bands], uri)
        return Item(tuple(names), files, tuple(bands), unit)


def _read_json(uri: SceneUri) -> bytes | None:
    """Return the document that a scene is; None for a raster."""
    is_json = Path(uri.name).suffix.lower() in _JSON_SUFFIXES
    if uri.url is not None and uri.url == uri.gdal_name.removeprefix("/vsicurl/"):
        if not is_json:
            remote = probe_url(uri.url)
            is_json = remote is not None and remote.head.lstrip().startswith(b"{")
        return read_url(uri.url, _MAX_BYTES) if is_json else None
    if not is_json or not uri.is_path or not Path(uri.text).exists():
        return None
    try:
        return read_regular(Path(uri.text), _MAX_BYTES)
    except OSError as error:
        raise DataError(
            f"the item cannot be read: {error.strerror}", uri, "give a STAC item"
        ) from error


def _parse_item(data: bytes, uri: SceneUri) -> tuple[dict[str, Asset], Asset]:
    """Return the assets and the properties of an item.

    The types of all values that are read are those of the standard.
    """
    try:
        item = parse_json(data)
    except ValueError as error:
        message = f"the JSON cannot be read: {error}"
        raise DataError(message, uri, "give a STAC item") from error
    kind = item.get("type") if isinstance(item, dict) else None
    if kind != "Feature" or not isinstance(item.get("assets"), dict):
        message = f"the JSON is {kind or 'something else'}, not a STAC item"
        raise DataError(message, uri, "give one item, not a catalog")
    properties = item.get("properties") or {}
    if not isinstance(properties, dict):
        raise DataError("the properties are not an object", uri, "give a STAC item")
    assets: dict[str, Asset] = {}
    for name, content in item["assets"].items():
        if isinstance(content, dict):
            assets[name] = content
            _check_lists(name, content, uri)
    _check_lists("properties", properties, uri)
    return assets, properties


def _check_lists(name: str, content: Asset, uri: SceneUri) -> None:
    """Raise a DataError if a list of an object has members of another type."""
    kinds = {"roles": str, "sar:polarizations": str} | dict.fromkeys(_BANDS, dict)
    for key, kind in kinds.items():
        values = content.get(key) or []
        is_list = isinstance(values, list)
        if not is_list or not all(isinstance(value, kind) for value in values):
            expected = "objects" if kind is dict else "texts"
            raise DataError(
                f"{key} of {name} is not a list of {expected}", uri, "correct the item"
            )


def _select_assets(
    assets: Mapping[str, Asset], asset: str | None, uri: SceneUri
) -> list[str]:
    """Return the names of the assets to open."""
    listing = ", ".join(assets) or "none"
    if asset is not None:
        names = [name.strip() for name in asset.split(",")]
        for name in names:
            if name not in assets:
                raise RequestError(
                    f"the item has no asset {name}", uri, f"its assets are {listing}"
                )
        return names
    names = [name for name in assets if "data" in (assets[name].get("roles") or [])]
    if not names:
        hint = f"choose one with --read asset=NAME: {listing}"
        raise DataError("no asset of the item has the role data", uri, hint)
    polarizations = set()
    for name in names:
        bands = _read_bands(name, assets[name])
        if len(bands) == 1 and bands[0].name in POLARIZATIONS:
            polarizations.add(bands[0].name)
    if len(names) > 1 and len(polarizations) < len(names):
        raise RequestError(
            f"the item has {len(names)} data assets: {', '.join(names)}",
            uri,
            "choose with --read asset=NAME, or asset=NAME,NAME",
        )
    return names


def _read_bands(name: str, content: Asset) -> list[ItemBand]:
    """Describe the bands of an asset.

    Without any description, it has one band if its name is that of a band.
    """
    lists = [content.get(key) or [] for key in _BANDS]
    polarizations = content.get("sar:polarizations") or []
    count = max(map(len, lists)) or len(polarizations)
    if not count and parse_band_name(name) is not None:
        count = 1
    bands = []
    for index in range(count):
        band = {**content, "name": None}
        for entries in lists:
            if index < len(entries):
                band |= entries[index]
        band_name = _name_band(band)
        if band_name is None and len(polarizations) == count:
            band_name = parse_band_name(polarizations[index])
        if band_name is None and count == 1:
            band_name = parse_band_name(name)
        bands.append(_describe_band(band, band_name))
    return bands


def _name_band(band: Asset) -> str | None:
    if band.get("name"):
        return parse_band_name(str(band["name"]))
    return _COLORS.get(str(band.get("eo:common_name") or band.get("common_name")))


def _describe_band(band: Asset, name: str | None) -> ItemBand:
    scale = _number(band, "raster:scale", "scale")
    offset = _number(band, "raster:offset", "offset")
    return ItemBand(
        name,
        str(band["unit"]) if band.get("unit") else None,
        Scaling(1.0 if scale is None else scale, offset or 0.0),
        _number(band, "nodata", "raster:nodata"),
        _number(band, "raster:spatial_resolution", "spatial_resolution"),
    )


def _number(band: Asset, *keys: str) -> float | None:
    """Return the first value under the keys; STAC writes NaN as "nan"."""
    for key in keys:
        with suppress(KeyError, TypeError, ValueError):
            return float(band[key])
    return None


def _resolve(uri: SceneUri, name: str, content: Asset) -> SceneUri:
    """Return where an asset is, which must be a raster."""
    href = content.get("href")
    media_type = content.get("type")
    if not isinstance(href, str) or not href:
        raise DataError(f"the asset {name} has no href", uri, _OTHER_ASSET)
    if isinstance(media_type, str) and not media_type.lower().startswith(_RASTER_TYPES):
        message = f"the asset {name} is {media_type}, not a raster"
        raise DataError(message, uri, _OTHER_ASSET)
    is_remote = href.lower().startswith(_REMOTE_SCHEMES)
    if not uri.is_path:
        address = href if is_remote else urljoin(str(uri.url), quote_url(href))
        if not address.lower().startswith(_REMOTE_SCHEMES):
            message = "the item on a server names a file that is not on a server"
            raise DataError(f"{message}: {href}", uri, "download the scene")
        check_host(address, str(uri.url))
        return SceneUri(address)
    if is_remote or href.startswith("/vsi"):
        check_host(SceneUri(href).url or "", "")
        return SceneUri(href)
    return _find_beside(uri, name, href)


def _find_beside(uri: SceneUri, name: str, href: str) -> SceneUri:
    """Return the file of an asset, which lies in the folder of the item or below."""
    try:
        target = SceneUri.parse(href).text
    except RequestError as error:
        message = f"the asset {name} has no valid href: {error.message}"
        raise DataError(message, uri, _OTHER_ASSET) from error
    folder = Path(uri.text).parent
    candidates = [folder / target, folder / unquote(target)]
    existing = [path for path in candidates if os.access(path, os.F_OK)]
    if not existing:
        message = f"the file of the asset {name} does not exist: {candidates[0]}"
        raise DataError(message, uri, "download it beside the item")
    if not existing[0].resolve().is_relative_to(folder.resolve()):
        message = f"the asset {name} is a file outside of the item's folder:"
        raise DataError(
            f"{message} {existing[0]}", uri, "give this file itself, if it is yours"
        )
    return SceneUri(str(existing[0]))
