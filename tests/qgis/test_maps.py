"""Maps as QGIS draws them: colors of pixels, legend, names of fields. `make test-qgis`
runs these tests."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import write_prediction_table

pytestmark = pytest.mark.skipif(
    "RSFT_TEST_QGIS" not in os.environ, reason="make test-qgis runs these tests"
)

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parent / "qgis_maps.py"
CLASSES = ("cargo", "tanker")
ORANGE = (230, 159, 0)
BLUE = (86, 180, 233)
GRAY = (140, 140, 140)
WHITE = (255, 255, 255)
LEGEND = [
    "cargo",
    "tanker",
    "unlike the training chips",
    "probability 0.9 or more",
    "0.6 to 0.9",
    "below 0.6",
]


def write(path, shapes, *, tile_step=None, crs="EPSG:4326", **columns):
    """Write a table of chips of the class cargo with probability 0.95, unless `columns`
    says otherwise."""
    values = {
        "class": "cargo",
        "probability": 0.95,
        "class_2": "tanker",
        "probability_2": 0.05,
        "ood": False,
    } | columns
    table = pd.DataFrame(
        {"chip": [str(index) for index in range(len(shapes))], **values}
    )
    table["geometry"] = pd.Series(list(shapes), dtype=object)
    layer = PredictionLayer(table, crs, CLASSES, {}, tile_step=tile_step)
    write_prediction_table(layer, path, overwrite=True)
    return f"{path}|layername=predictions" if path.suffix == ".gpkg" else str(path)


def draw(folder, source, extent=(0, 0, 1, 1), size=(100, 100), labels=False):
    """Let QGIS draw a layer. Return its pixels (row, column, RGB) and what QGIS knows
    about it."""
    picture = folder / "map.png"
    job = {
        "source": source,
        "picture": str(picture),
        "extent": extent,
        "size": size,
        "labels": labels,
    }
    (folder / "jobs.json").write_text(json.dumps([job]))
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONPATH"
    }
    environment |= {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(folder)}
    command = [PYTHON, str(SCRIPT), str(folder / "jobs.json")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    if "No module named 'qgis'" in done.stderr:
        pytest.skip(f"{PYTHON} has no PyQGIS (Debian: apt install python3-qgis)")
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(picture).convert("RGB")).astype(int), json.loads(
        done.stdout.splitlines()[-1]
    )


def mix(color, opacity=1.0):
    """Return a color on white paper."""
    return pytest.approx([255 + opacity * (value - 255) for value in color], abs=3)


def width(pixels, column):
    """Return the number of colored or dark pixels in a column of the picture."""
    return int((pixels[:, column].min(axis=1) < 200).sum())


def test_points(tmp_path):
    chances = {
        "probability": [0.95, 0.7, 0.4, 0.95, 0.95],
        "class": ["cargo", "cargo", "tanker", "tanker", "cargo"],
    }
    points = shapely.points(
        [(0.1, 0.5), (0.3, 0.5), (0.5, 0.5), (0.7, 0.5), (0.9, 0.5)]
    )
    source = write(
        tmp_path / "out.gpkg", points, ood=[False, False, False, True, False], **chances
    )
    pixels, qgis = draw(tmp_path, source)
    row = pixels[50]
    assert [row[col] for col in (10, 20, 30, 50, 70, 90)] == [
        *map(mix, (ORANGE, WHITE, ORANGE, BLUE, GRAY, ORANGE))
    ]
    assert width(pixels, 10) > width(pixels, 30) > width(pixels, 50) >= 8
    assert qgis["legend"] == LEGEND
    aliases = {"probability": "Probability (0 to 1)", "corrected": "Corrected class"}
    assert qgis["aliases"].items() >= aliases.items()
    assert (qgis["widget"], qgis["choices"]) == (
        "ValueMap",
        ["", "cargo", "tanker", "not a target", "unsure"],
    )
    assert qgis["label"] == "cargo 95 %"
    assert qgis["map_tip"] == "<b>cargo</b><br>probability 0.95<br>or: tanker (0.05)"


def test_a_correction_changes_the_map(tmp_path):
    points = shapely.points([(0.2, 0.5), (0.5, 0.5), (0.8, 0.5)])
    corrected = ["tanker", "not a target", "unsure"]
    columns = {
        "corrected": corrected,
        "probability": [0.3, 0.95, 0.7],
        "ood": [True, False, False],
    }
    pixels, qgis = draw(tmp_path, write(tmp_path / "out.gpkg", points, **columns))
    assert (
        pixels[50][20] == mix(BLUE)
        and pixels[50][50] == mix(WHITE)
        and pixels[50][80] == mix(ORANGE)
    )
    assert width(pixels, 20) > width(pixels, 80)
    assert qgis["label"] == "tanker" and qgis["map_tip"].endswith(
        "<br>corrected: tanker"
    )


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_boxes_are_discs_at_small_scales(tmp_path, suffix):
    boxes = [shapely.box(0.2, 0.4, 0.4, 0.6), shapely.box(0.6, 0.4, 0.8, 0.6)]
    source = write(
        tmp_path / f"out{suffix}", boxes, ood=[False, True], probability=[0.95, 0.3]
    )
    pixels, qgis = draw(tmp_path, source)
    assert pixels[50][20] == mix(ORANGE)  # the outline
    assert pixels[50][30] == mix(ORANGE, 50 / 255) and pixels[50][35] == mix(
        ORANGE, 50 / 255
    )
    hatched = {tuple(color) for color in pixels[42:58, 62:78].reshape(-1, 3)}
    assert (
        GRAY in hatched
        and WHITE in hatched
        and all(max(color) - min(color) <= 2 for color in hatched)
    )
    assert qgis["legend"] == LEGEND and qgis["types"]["ood"] in (
        "Boolean",
        "Integer(Boolean)",
    )
    assert qgis["label"] == "cargo 95 %"
    pixels, _ = draw(tmp_path, source, extent=(-2, -2, 3, 3))
    assert (
        pixels[50][45] == mix(ORANGE)
        and pixels[50][54] == mix(GRAY)
        and pixels[50][39] == mix(ORANGE)
    )


def test_boxes_in_pixels(tmp_path):
    source = write(tmp_path / "out.gpkg", [shapely.box(40, -60, 60, -40)], crs=None)
    near, _ = draw(tmp_path, source, extent=(0, -100, 100, 0))
    assert near[50][40] == mix(ORANGE) and near[50][50] == mix(ORANGE, 50 / 255)
    far, _ = draw(tmp_path, source, extent=(-1000, -1100, 1100, 1000))
    assert far[50][50] == mix(ORANGE)


def test_tiles_do_not_overlap(tmp_path):
    tiles = [
        shapely.box(x, y, x + 0.4, y + 0.4)
        for y in (0, 0.2, 0.4)
        for x in (0, 0.2, 0.4, 0.5)
    ]
    classes = ["cargo", "tanker", "cargo", "tanker"] * 3
    columns = {
        "class": classes,
        "probability": [0.95] * 8 + [0.7] * 4,
        "ood": [True] + [False] * 11,
    }
    pixels, qgis = draw(
        tmp_path, write(tmp_path / "out.gpkg", tiles, tile_step=0.5, **columns)
    )
    assert qgis["legend"] == LEGEND and qgis["label"] is None
    center = pixels[60]
    upper = pixels[40]
    assert (
        center[20] == mix(ORANGE, 0.6)
        and center[40] == mix(BLUE, 0.6)
        and center[55] == mix(ORANGE, 0.6)
    )
    # the last column overlaps the one before, and replaces it
    assert center[65] == mix(BLUE, 0.6)
    assert upper[20] == mix(ORANGE, 0.42) and upper[65] == mix(BLUE, 0.42)
    assert center[5] == mix(WHITE)
    # gray hatches
    assert {
        max(color) - min(color) for color in pixels[72:88, 12:28].reshape(-1, 3)
    } <= {
        0,
        1,
        2,
    }


@pytest.mark.parametrize("shape", ["point", "box"])
def test_labels_appear_at_large_scales(tmp_path, shape):
    shapes = [
        (
            shapely.Point(0.0003, 0.0005)
            if shape == "point"
            else shapely.box(0.0002, 0.0004, 0.0004, 0.0006)
        )
    ]
    source = write(tmp_path / "out.gpkg", shapes)
    for side, labeled in ((0.001, True), (0.1, False)):
        size = (300, 300)
        extent = (0, 0, side, side)
        plain, _ = draw(tmp_path, source, extent, size)
        with_labels, _ = draw(tmp_path, source, extent, size, labels=True)
        assert (plain != with_labels).any() == labeled
