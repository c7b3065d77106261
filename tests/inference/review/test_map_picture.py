"""Maps show scene, classes, unlike chips and the shape on the ground; they are drawn
from the table alone."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from matplotlib.colors import to_rgb
from PIL import Image
from rasterio.transform import Affine

from rsft.errors import RequestError
from rsft.inference.review.map_picture import (
    MAX_SCENES,
    draw_map_picture,
    draw_scene_maps,
)
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors
from rsft.inference.writers.tables import write_prediction_table
from rsft.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

CLASSES = ("cargo", "fishing", "tanker")
COLORS = class_colors(CLASSES)


def draw(tmp_path, table, size=(100, 200), **profile):
    pixels = np.random.default_rng(0).integers(1, 60, size, np.uint8)
    scene = open_scene(write_geotiff(tmp_path / "s.tif", pixels, **profile))
    png = draw_map_picture(
        PredictionLayer(table, None, CLASSES, {}), scene, ["2 of 3 found"]
    )
    (tmp_path / "map.png").write_bytes(png)
    return (
        np.asarray(
            Image.open(BytesIO((tmp_path / "map.png").read_bytes())).convert("RGB")
        )
        / 255
    )


def table(*rows):
    columns = ["row", "col", "class", "ood", "geometry"]
    return pd.DataFrame(rows, columns=columns).assign(scene="s.tif")


def positions(picture, color, side):
    """Return the positions of a color in the map, which has the height of the picture,
    as shares of height and side."""
    rows, cols = np.nonzero(np.abs(picture - to_rgb(color)).max(axis=2) < 0.02)
    inside = cols < side
    return np.column_stack([rows[inside] / picture.shape[0], cols[inside] / side])


@pytest.mark.slow
def test_dots_have_the_color_of_their_class_and_lie_where_the_objects_are(tmp_path):
    rows = table(
        (25, 50, "cargo", False, None),
        (75, 150, "tanker", False, None),
        (50, 100, "cargo", True, None),
    )
    picture = draw(tmp_path, rows, crs="EPSG:32633", transform=UTM)
    side = 2 * picture.shape[0]
    for name, center in {"cargo": (0.25, 0.25), "tanker": (0.75, 0.75)}.items():
        np.testing.assert_allclose(
            positions(picture, COLORS[name], side).mean(axis=0), center, atol=0.01
        )
    # neither in the map nor in the legend
    assert not len(positions(picture, COLORS["fishing"], picture.shape[1]))
    assert len(positions(picture, "#b0b0b0", side)) > 10
    assert len(positions(picture[:, side:], COLORS["cargo"], 10**6)) > 10  # the legend


@pytest.mark.slow
def test_outlines_in_pixels_without_a_georeference(tmp_path):
    box = shapely.box(40, -80, 120, -20)  # column and -row
    picture = draw(tmp_path, table((50, 80, "fishing", False, box)))
    found = positions(picture, COLORS["fishing"], 2 * len(picture))
    np.testing.assert_allclose(
        [found.min(axis=0), found.max(axis=0)], [(0.2, 0.2), (0.8, 0.6)], atol=0.02
    )


@pytest.mark.parametrize("along", [10, 5])
def test_pixels_that_are_not_square_keep_the_shape_of_the_ground(tmp_path, along):
    transform = Affine(along, 0, 500_000, 0, -10, 5_000_000)
    picture = draw(
        tmp_path, table(), size=(100, 100), crs="EPSG:32633", transform=transform
    )
    is_white = (picture == 1).all(axis=2).mean(axis=0) > 0.8  # columns of the legend
    assert np.argmax(is_white) / picture.shape[0] == pytest.approx(along / 10, abs=0.02)


@pytest.mark.slow
def test_an_empty_table_and_ugly_classes(tmp_path):
    assert draw(tmp_path, table()).shape[2] == 3
    assert draw(tmp_path, table((10, 10, None, False, None))).shape[2] == 3
    assert (
        draw(tmp_path, table((10, 10, "cargo", False, None)).drop(columns="ood")).shape[
            2
        ]
        == 3
    )


TWO_CLASSES = ("cargo", "tanker")
TRUTH = {"scene": "a.tif", "objects": 3, "found": 2, "right": 1, "other": 1}


@pytest.fixture
def scenes(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 60, (100, 200), np.uint8)
    return [
        str(
            write_geotiff(
                tmp_path / f"{name}.tif", pixels, crs="EPSG:32633", transform=UTM
            )
        )
        for name in "ab"
    ]


def write_table(path, paths, **changes):
    rows = [
        ("a.tif", 25, 50, "cargo", False),
        ("a.tif", 75, 150, "tanker", True),
        ("b.tif", 9, 9, "cargo", False),
    ]
    table = pd.DataFrame(rows, columns=["scene", "row", "col", "class", "ood"])
    table = table.assign(geometry=[shapely.Point(15, 50)] * len(rows))
    metadata = {
        "scenes": paths,
        "classes": list(TWO_CLASSES),
        "bundle_sha256": "f00",
        "truth": [TRUTH],
    } | changes
    layer = PredictionLayer(table, "EPSG:4326", TWO_CLASSES, metadata)
    write_prediction_table(layer, path, overwrite=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_every_scene_has_a_map_with_its_numbers(tmp_path, scenes, suffix):
    first, second = draw_scene_maps(write_table(tmp_path / f"t{suffix}", scenes), "f00")
    assert first[:3] == ("a.tif", 2, 1) and first[3][0] == "2 of 3 true objects found"
    assert (
        second[:4] == ("b.tif", 1, 0, [])
        and Image.open(BytesIO(first[5])).format == "PNG"
    )
    assert first[4]["unlike the training chips (1)"] == "#b0b0b0" and len(first[4]) == 2
    width, height = Image.open(BytesIO(first[5])).size
    assert width == pytest.approx(height * 2, rel=0.02)  # without a legend


def test_without_calibration_the_number_of_unlike_chips_is_unknown(tmp_path, scenes):
    path = write_table(tmp_path / "t.geojson", scenes[:1])
    content = json.loads(path.read_text())
    for feature in content["features"]:
        del feature["properties"]["ood"]
    path.write_text(json.dumps(content))
    assert draw_scene_maps(path, "f00")[0][2] is None


@pytest.mark.slow
def test_tables_that_cannot_be_drawn(tmp_path, scenes):
    with pytest.raises(RequestError, match=mentions("another bundle", "table")):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes), "bad")
    with pytest.raises(RequestError, match=mentions("0 scenes")):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes, scenes=[]), "f00")
    with pytest.raises(RequestError, match="no such scene"):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", [3]), "f00")
    for changes in ({"truth": [3]}, {"request": {"product_options": {"odd": 1}}}):
        with pytest.raises(RequestError, match=mentions("metadata", "damaged")):
            draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes, **changes), "f00")
    with pytest.raises(RequestError, match=rf"1 to {MAX_SCENES}"):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes * MAX_SCENES), "f00")
    Path(scenes[0]).unlink()
    with pytest.raises(RequestError, match="no such scene"):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes), "f00")
