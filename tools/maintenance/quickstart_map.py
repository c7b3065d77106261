"""Draw docs/quickstart-map.png: a simulated scene, in which the model of the quick start detects and classifies ships.

python -m tools.maintenance.quickstart_map runs/quickstart
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.plugins.demo.scene import LAND_FILE, SCENE_FILE, SHIPS_FILE, write_scene
from rsft.scenes.query import CfarOptions, Query
from rsft.utils.atomic_files import write_bytes
from tools.errors import explained_errors
from tools.maintenance.chromium import PICTURES_DIR, reduce_colors

PICTURE = PICTURES_DIR / "quickstart-map.png"


def main(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle or run of the recipe quickstart.")
    ],
    picture: Annotated[Path, typer.Option(help="PNG to write.")] = PICTURE,
) -> None:
    """Simulate the scene of the quick start, classify its ships and draw the map."""
    with tempfile.TemporaryDirectory() as name:
        scene = Path(name, "scene")
        write_scene(scene)
        request = PredictionRequest(
            query=Query(detect=CfarOptions(land=scene / LAND_FILE)),
            picture_path=Path(name, "map.png"),
            truth_path=scene / SHIPS_FILE,
        )
        result = predict(
            bundle, [scene / SCENE_FILE], Path(name, "ships.gpkg"), request
        )
        map_picture = Path(name, "map.png").read_bytes()
        write_bytes(
            picture, reduce_colors(map_picture, method=Image.Quantize.FASTOCTREE)
        )
    typer.echo("\n".join(str(check) for check in result.truth))


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
