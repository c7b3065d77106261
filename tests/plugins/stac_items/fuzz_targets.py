"""STAC items of local files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.classes.scenes import read_scene
from tests.fuzz.mutate import mutate_json
from tests.fuzz.target import Target
from tests.helpers.scenes import UTM, write_geotiff


def _build_stac(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (48, 64)).astype(np.int16)
    write_geotiff(folder / "vv.tif", pixels, crs="EPSG:32633", transform=UTM)
    band = {
        "name": "VV",
        "unit": "gamma0",
        "scale": 0.5,
        "offset": 2000,
        "nodata": -1,
        "spatial_resolution": 10,
    }
    asset = {
        "href": "./vv.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "raster:bands": [band],
    }
    properties = {"sar:polarizations": ["VV"], "datetime": "2026-01-01T00:00:00Z"}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "i",
        "properties": properties,
        "assets": {"vv": asset},
    }
    (folder / "item.json").write_text(json.dumps(item))


def mutate_item(rng: Random, data: bytes) -> bytes:
    """Change a STAC item, but no address: a user who gives an item asks for the files
    on its servers."""
    return mutate_json(rng, data).replace(b"http:", b"x:").replace(b"/vsicurl/", b"x")


TARGETS = [
    Target(
        "stac",
        _build_stac,
        {"item.json": mutate_item},
        partial(read_scene, "item.json"),
    ),
]
"""All classes of input of this plug-in."""
