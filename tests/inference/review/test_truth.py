"""Detected objects are compared with the truth."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from rsft.errors import DataError, RequestError
from rsft.inference.review.truth import TruthCheck, check_truth
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import UTM, write_geotiff

CENTERS = [(40, 40), (60, 140), (120, 60), (100, 100)]  # row, col
TRUE_CLASSES = ["cargo", "cargo", "tanker", "tanker"]


@pytest.fixture
def scene(tmp_path):
    return open_scene(
        write_geotiff(
            tmp_path / "s.tif", np.ones((160, 192), np.uint8), crs=32633, transform=UTM
        )
    )


def write_truth(path, half=0, **columns):
    """Write points, or squares with sides of 2 `half` pixels."""
    points = [shapely.Point(UTM @ (col, row)) for row, col in CENTERS]
    shapes = [
        point.buffer(10 * half, cap_style="square") if half else point
        for point in points
    ]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=32633).to_file(path)
    return path


def detections(*rows, scene="s.tif"):
    return pd.DataFrame(rows, columns=["row", "col", "class"]).assign(scene=scene)


def test_points_are_found_within_an_eighth_of_the_chip(scene, tmp_path):
    truth = write_truth(tmp_path / "t.gpkg", **{"class": TRUE_CLASSES})
    table = detections(
        (40, 43.9, "cargo"), (60, 144.1, "cargo"), (120, 60, "cargo"), (5, 5, "tanker")
    )
    check = check_truth(table, scene, truth, side=32)
    assert check == TruthCheck("s.tif", objects=4, found=2, right=1, other=2)
    assert (
        str(check)
        == "s.tif: 2 of 4 true objects found, 1 of them have the right class, 2 other"
        " objects"
    )


def test_a_detection_in_a_box_is_found_however_large_the_box(scene, tmp_path):
    truth = write_truth(tmp_path / "t.gpkg", half=15, **{"class": TRUE_CLASSES})
    table = detections(
        (54, 26, "cargo"),
        (60, 158.9, "cargo"),
        (60, 159.1, "cargo"),
        (float("nan"), 3, None),
    )
    assert check_truth(table, scene, truth, side=32) == TruthCheck(
        "s.tif", 4, found=2, right=2, other=1
    )


def test_one_detection_counts_once_and_as_many_objects_as_possible_are_found(
    scene, tmp_path
):
    truth = write_truth(tmp_path / "t.gpkg", half=40, **{"class": TRUE_CLASSES})
    # the second one lies in the box of two objects
    table = detections((110, 80, "tanker"), (120, 60, "tanker"))
    assert check_truth(table, scene, truth, side=32) == TruthCheck(
        "s.tif", 4, found=2, right=2, other=0
    )
    table = detections((110, 80, "tanker"))
    assert check_truth(table, scene, truth, side=32).found == 1


def test_no_detection_and_other_scenes(scene, tmp_path):
    truth = write_truth(tmp_path / "t.gpkg", **{"class": TRUE_CLASSES})
    assert check_truth(detections(), scene, truth, side=32) == TruthCheck(
        "s.tif", 4, 0, 0, 0
    )
    other = detections((40, 40, "cargo"), scene="other.tif")
    assert check_truth(other, scene, truth, side=32) == TruthCheck("s.tif", 4, 0, 0, 0)


def test_unusable_truth(scene, tmp_path):
    with pytest.raises(DataError, match="no column class"):
        check_truth(
            detections(), scene, write_truth(tmp_path / "t.gpkg", kind=TRUE_CLASSES), 32
        )
    with pytest.raises(RequestError, match="no such file"):
        check_truth(detections(), scene, tmp_path / "missing.gpkg", 32)
    csv = tmp_path / "t.csv"
    csv.write_text("row,col,class\n40,40,cargo\n900,40,cargo\n")
    assert check_truth(detections((40, 40, "cargo")), scene, csv, 32).objects == 1
