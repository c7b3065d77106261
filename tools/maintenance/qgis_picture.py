"""Draw the map of docs/qgis.md: boxes of ships in a simulated scene, classified by rsft and drawn by QGIS.

python -m tools.maintenance.qgis_picture runs/quickstart

It needs QGIS (Debian: apt install qgis python3-qgis).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from PIL import Image
from rasterio.transform import Affine
from shapely.affinity import affine_transform

from rsft.plugins.demo.placement import place_ships
from rsft.plugins.demo.radar import (
    Pose,
    amplitude_to_uint8,
    render_sar_scene,
    sample_sensor,
)
from rsft.utils.atomic_files import write_bytes
from tools.errors import explained_errors
from tools.maintenance.chromium import reduce_colors

PICTURE = Path(__file__).parents[2] / "docs/qgis-map.png"
SIZE = 1000
SPACING = 1.3
CRS = "EPSG:32633"
KINDS = ("cargo", "fishing", "tanker", "dredger", "cargo") * 3
SEED = 4
MARGIN = 12  # meters


def write_scene(folder: Path) -> None:
    """Write scene.tif, and ships.gpkg with the boxes of the ships.

    Args:
        folder: an existing folder.
    """
    rng = np.random.default_rng(SEED)
    poses = place_ships(KINDS, None, 0.85 * SIZE * SPACING, rng).values()
    pixels = amplitude_to_uint8(
        render_sar_scene(
            list(poses), None, sample_sensor(rng, (SPACING, SPACING)), rng, SIZE
        )
    )
    transform = Affine(SPACING, 0, 500_000, 0, -SPACING, 5_000_000)
    profile = {
        "driver": "GTiff",
        "width": SIZE,
        "height": SIZE,
        "count": 1,
        "dtype": "uint8",
        "crs": CRS,
    }
    with rasterio.open(
        folder / "scene.tif", "w", transform=transform, **profile
    ) as file:
        file.write(pixels[None])
    boxes = [affine_transform(_box(pose), transform.to_shapely()) for pose in poses]
    geopandas.GeoDataFrame(geometry=boxes, crs=CRS).to_file(folder / "ships.gpkg")


def _box(pose: Pose) -> shapely.Polygon:
    """Return a box around a ship in pixels of the scene."""
    length = pose.ship.length + MARGIN
    beam = pose.ship.beam + MARGIN
    corners = (
        np.array([(-length, -beam), (length, -beam), (length, beam), (-length, beam)])
        / 2
    )
    return shapely.Polygon(pose.to_image_frame(corners) / SPACING + SIZE / 2)


def draw_map(bundle: str, python: str, picture: Path = PICTURE) -> None:
    """Classify the ships of a simulated scene and draw them.

    Args:
        bundle: the bundle, or its run.
        python: the Python of QGIS.
        picture: path of the PNG.
    """
    script = Path(__file__).with_name("qgis_render.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder)
        table = folder / "classes.gpkg"
        predict = [
            "predict",
            bundle,
            str(folder / "scene.tif"),
            "--at",
            str(folder / "ships.gpkg"),
            "-o",
            str(table),
        ]
        subprocess.run([sys.executable, "-m", "rsft", *predict], check=True)
        environment = {
            key: value for key, value in os.environ.items() if key != "PYTHONPATH"
        }
        environment |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": name}
        command = [
            python,
            str(script),
            str(folder / "scene.tif"),
            f"{table}|layername=predictions",
            str(picture),
        ]
        subprocess.run(command, check=True, env=environment)
    write_bytes(
        picture, reduce_colors(picture.read_bytes(), method=Image.Quantize.FASTOCTREE)
    )


def main() -> None:
    """Draw the map."""
    parser = argparse.ArgumentParser(description="Draw the map of docs/qgis.md.")
    parser.add_argument("bundle", help="Bundle or run of the recipe quickstart.")
    parser.add_argument(
        "--python", default="/usr/bin/python3", help="The Python of QGIS."
    )
    arguments = parser.parse_args()
    draw_map(arguments.bundle, arguments.python)


if __name__ == "__main__":
    with explained_errors():
        main()
