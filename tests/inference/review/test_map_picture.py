"""The map shows the scene, every class in its color, unlike chips in gray, and the shape of the scene on the ground."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from matplotlib.colors import to_rgb
from PIL import Image
from rasterio.transform import Affine

from rsft.inference.review.map_picture import draw_map_picture
from rsft.inference.scenes.raster import open_scene
from rsft.inference.writers.map_styles import class_colors
from rsft.inference.writers.tables import PredictionLayer
from tests.helpers.scenes import UTM, write_geotiff

CLASSES = ("cargo", "fishing", "tanker")
COLORS = class_colors(CLASSES)


def draw(tmp_path: Path, table: pd.DataFrame, size=(100, 200), **profile) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(1, 60, size, np.uint8)
    scene = open_scene(write_geotiff(tmp_path / "s.tif", pixels, **profile))
    png = draw_map_picture(PredictionLayer(table, None, CLASSES, {}), scene, ["2 of 3 found"])
    (tmp_path / "map.png").write_bytes(png)
    return np.asarray(Image.open(BytesIO((tmp_path / "map.png").read_bytes())).convert("RGB")) / 255


def table(*rows: tuple[float, float, str | None, bool, object]) -> pd.DataFrame:
    columns = ["row", "col", "class", "ood", "geometry"]
    return pd.DataFrame(rows, columns=columns).assign(scene="s.tif")


def positions(picture: np.ndarray, color: str, side: float) -> np.ndarray:
    """Return the positions of a color in the map, which has the height of the picture, as shares of height and side."""
    rows, cols = np.nonzero(np.abs(picture - to_rgb(color)).max(axis=2) < 0.02)
    inside = cols < side
    return np.column_stack([rows[inside] / picture.shape[0], cols[inside] / side])


@pytest.mark.slow
def test_dots_have_the_color_of_their_class_and_lie_where_the_objects_are(tmp_path) -> None:
    rows = table((25, 50, "cargo", False, None), (75, 150, "tanker", False, None), (50, 100, "cargo", True, None))
    picture = draw(tmp_path, rows, crs="EPSG:32633", transform=UTM)
    side = 2 * picture.shape[0]
    for name, center in {"cargo": (0.25, 0.25), "tanker": (0.75, 0.75)}.items():
        np.testing.assert_allclose(positions(picture, COLORS[name], side).mean(axis=0), center, atol=0.01)
    assert not len(positions(picture, COLORS["fishing"], picture.shape[1]))  # neither in the map nor in the legend
    assert len(positions(picture, "#b0b0b0", side)) > 10
    assert len(positions(picture[:, side:], COLORS["cargo"], 10**6)) > 10  # the legend


@pytest.mark.slow
def test_outlines_in_pixels_without_a_georeference(tmp_path) -> None:
    box = shapely.box(40, -80, 120, -20)  # column and -row
    picture = draw(tmp_path, table((50, 80, "fishing", False, box)))
    found = positions(picture, COLORS["fishing"], 2 * len(picture))
    np.testing.assert_allclose([found.min(axis=0), found.max(axis=0)], [(0.2, 0.2), (0.8, 0.6)], atol=0.02)


@pytest.mark.parametrize("along", [10, 5])
def test_pixels_that_are_not_square_keep_the_shape_of_the_ground(tmp_path, along: float) -> None:
    transform = Affine(along, 0, 500_000, 0, -10, 5_000_000)
    picture = draw(tmp_path, table(), size=(100, 100), crs="EPSG:32633", transform=transform)
    is_white = (picture == 1).all(axis=2).mean(axis=0) > 0.8  # columns of the legend
    assert np.argmax(is_white) / picture.shape[0] == pytest.approx(along / 10, abs=0.02)


@pytest.mark.slow
def test_an_empty_table_and_ugly_classes(tmp_path) -> None:
    assert draw(tmp_path, table()).shape[2] == 3
    assert draw(tmp_path, table((10, 10, None, False, None))).shape[2] == 3
    assert draw(tmp_path, table((10, 10, "cargo", False, None)).drop(columns="ood")).shape[2] == 3
