"""The loop of correction: predict, correct labels, add them to the store, train on,
predict again."""

import csv
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from tests.helpers.scenes import UTM, write_geotiff

SIDE = 32
ENDS = {
    "flat": [(12, 0)],
    "steep": [(0, 12)],
    "slanted": [(10, 10)],
    "cross": [(12, 0), (0, 12)],
}
# row, col; eleven chips at the edge
CENTERS = [(row, col) for row in (8, 72, 152) for col in (8, 72, 136, 184)]
CLASSES = [list(ENDS)[number % 4] for number in (0, 3, 1, 2, 3, 2, 3, 1, 0, 1, 3, 2)]


@pytest.fixture
def sea(tmp_path):
    """Write a scene with a bar at every center, and the centers as positions."""
    pixels = np.random.default_rng(7).gamma(2, 15, (160, 192))
    for (row, col), name in zip(CENTERS, CLASSES, strict=True):
        for dx, dy in ENDS[name]:
            cv2.line(pixels, (col - dx, row - dy), (col + dx, row + dy), 255, 3)
    pixels = np.clip(pixels, 1, 255).astype(np.uint8)
    write_geotiff(tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    lines = ["row,col", *(f"{row},{col}" for row, col in CENTERS)]
    (tmp_path / "bars.csv").write_text("\n".join(lines))


def classify(rsft, bundle, out):
    """Predict the bars of the scene, and return the table in the order of the
    positions."""
    options = ("--at", "bars.csv", "--size", SIDE, "--chips", "cut", "--overwrite")
    code, printed = rsft("predict", bundle, "scene.tif", *options, "-o", out)
    assert code == 0, printed
    return pd.read_csv(out).sort_values("at", ignore_index=True)


def save_labels(path, table):
    """Write the true classes as the review page does."""
    columns = {
        "path": table["path"],
        "class": CLASSES,
        "verdict": "class",
        "predicted": table["class"],
    }
    table = pd.DataFrame(columns | {"scene": table["scene"], "at": table["at"]})
    table.to_csv(path, index=False, quoting=csv.QUOTE_ALL)


@pytest.mark.slow
def test_the_loop(rsft, run, root, sea, tmp_path):
    shutil.copytree(root, tmp_path / "store")
    before = classify(rsft, run, "before.csv")
    save_labels(tmp_path / "corrected.csv", before)
    code, printed = rsft(
        "data", "add", "store", "corrected.csv", "--new-class", "cross", "--json"
    )
    event = json.loads(printed.splitlines()[-1])
    assert code == 0 and (event["added"], event["rejected"]) == (12, 0), printed
    added = ChipStore.open(tmp_path / "store").table.dropna(subset=["added_from"])
    assert added["class"].value_counts().to_dict() == {
        "cross": 4,
        "slanted": 3,
        "steep": 3,
        "flat": 2,
    }
    keys = ("data.root=store", "train.epochs=12", "train.lr=0.02")
    code, printed = rsft("finetune", "--from", run, *keys, "--no-report")
    assert code == 0, printed
    replay = json.loads(next(tmp_path.glob("runs/*/*/replay.json")).read_text())
    (cross,) = (row for row in replay["parts"][1]["classes"] if row["name"] == "cross")
    assert (cross["chips"], cross["gained"], cross["lost"]) == (4, 4, 0), replay
    assert "added training chips: 12 of 12 right, 8 before" in printed
    assert "no class fell by 10 points or more" in printed
    after = classify(rsft, next((tmp_path / "runs").glob("*/*/bundle")), "after.csv")
    assert (before["class"] == CLASSES).sum() == 8  # the bundle knows no cross
    assert after["class"].tolist() == CLASSES
