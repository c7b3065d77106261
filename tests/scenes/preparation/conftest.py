"""Two labeled scenes, and the chip store that is made of them."""

import geopandas
import pytest
import shapely

from rsft.data.imagery.reader import read_chip
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff

# class, row, col, length, width
SHIPS = [
    ("cargo", 40, 50, 30, 10),
    ("tanker", 120, 150, 40, 12),
    ("fishing", 90, 60, 6, 4),
]


@pytest.fixture
def scenes(tmp_path):
    """Two scenes in sigma0 with three ships each, and a layer with their outlines on
    the map."""
    folder = tmp_path / "scenes"
    rows = []
    folder.mkdir()
    for number in range(2):
        transform = UTM * UTM.translation(300 * number, 0)
        pixels = simulate_sea(200, 220, seed=number)
        for name, row, col, length, width in SHIPS:
            top = row - width // 2
            left = col - length // 2
            pixels[top : top + width, left : left + length] = 3
            corners = [
                transform * (left + x, top + y)
                for x, y in ((0, 0), (length, 0), (length, width), (0, width))
            ]
            rows.append(
                {
                    "type": name,
                    "mmsi": f"{number}{row:08d}",
                    "geometry": shapely.Polygon(corners),
                }
            )
        options = {
            "crs": "EPSG:32633",
            "transform": transform,
            "names": ("VV",),
            "units": ("sigma0",),
        }
        write_geotiff(folder / f"s{number}.tif", pixels**2, **options)
    labels = tmp_path / "ships.gpkg"
    geopandas.GeoDataFrame(rows, crs="EPSG:32633").to_file(labels)
    return folder, labels


def prepared(scenes, root, **options):
    folder, labels = scenes
    return prepare(folder, root, at=labels, **({"jobs": 1, "size": "32"} | options))


def chips_of(store):
    return {
        name: read_chip(store.root / path)
        for name, path in store.table[["name", "path"]].to_numpy()
    }
