"""Maps are drawn from the table alone, by the bundle of the run, from scenes that still exist."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from rsft.errors import DataError, RequestError
from rsft.inference.review.map_picture import MAX_SCENES, draw_scene_maps
from rsft.inference.writers.tables import PredictionLayer, write_prediction_table
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

CLASSES = ("cargo", "tanker")
TRUTH = {"scene": "a.tif", "objects": 3, "found": 2, "right": 1, "other": 1}


@pytest.fixture
def scenes(tmp_path: Path) -> list[str]:
    pixels = np.random.default_rng(0).integers(1, 60, (100, 200), np.uint8)
    return [str(write_geotiff(tmp_path / f"{name}.tif", pixels, crs="EPSG:32633", transform=UTM)) for name in "ab"]


def write_table(path: Path, scenes: list[str], **changes: object) -> Path:
    rows = [("a.tif", 25, 50, "cargo", False), ("a.tif", 75, 150, "tanker", True), ("b.tif", 9, 9, "cargo", False)]
    table = pd.DataFrame(rows, columns=["scene", "row", "col", "class", "ood"]).assign(
        geometry=[shapely.Point(15, 50)] * len(rows)
    )
    metadata = {"scenes": scenes, "classes": list(CLASSES), "bundle_sha256": "f00", "truth": [TRUTH]} | changes
    layer = PredictionLayer(table, "EPSG:4326", CLASSES, metadata)
    write_prediction_table(layer, path, overwrite=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_every_scene_has_a_map_with_its_numbers(tmp_path: Path, scenes: list[str], suffix: str) -> None:
    first, second = draw_scene_maps(write_table(tmp_path / f"t{suffix}", scenes), "f00")
    assert (first.scene, first.chips, first.ood) == ("a.tif", 2, 1) and first.truth[0] == "2 of 3 true objects found"
    assert (second.scene, second.chips, second.ood, second.truth) == ("b.tif", 1, 0, [])
    assert Image.open(BytesIO(first.picture)).format == "PNG"


def test_without_calibration_the_number_of_unlike_chips_is_unknown(tmp_path: Path, scenes: list[str]) -> None:
    path = write_table(tmp_path / "t.geojson", scenes[:1])
    content = json.loads(path.read_text())
    for feature in content["features"]:
        del feature["properties"]["ood"]
    path.write_text(json.dumps(content))
    assert draw_scene_maps(path, "f00")[0].ood is None


@pytest.mark.slow
def test_tables_that_cannot_be_drawn(tmp_path: Path, scenes: list[str]) -> None:
    with pytest.raises(RequestError, match=mentions("another bundle", "table")):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes), "bad")
    for changes in ({"scenes": []}, {"scenes": [3]}, {"classes": "cargo"}):
        with pytest.raises(RequestError, match=mentions("no scenes")):
            draw_scene_maps(write_table(tmp_path / "t.gpkg", **({"scenes": scenes} | changes)), "f00")
    for changes in ({"truth": [3]}, {"request": {"product_options": {"odd": 1}}}):
        with pytest.raises(RequestError, match=mentions("metadata", "damaged")):
            draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes, **changes), "f00")
    with pytest.raises(RequestError, match=rf"at most {MAX_SCENES}"):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes * MAX_SCENES), "f00")
    Path(scenes[0]).unlink()
    with pytest.raises(DataError):
        draw_scene_maps(write_table(tmp_path / "t.gpkg", scenes), "f00")
