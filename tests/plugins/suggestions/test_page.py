"""The review page of suggested chips shows these chips and the reasons."""

import base64
import json
import re

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import write_prediction_table
from rsft.plugins.suggestions.page import encode_vectors, write_suggestion_page
from rsft.plugins.suggestions.suggest import suggest_chips
from tests.helpers.messages import mentions
from tests.helpers.scenes import write_geotiff

CLASSES = ("cargo", "tug")
METADATA = {
    "classes": list(CLASSES),
    "train_counts": {"cargo": 90, "tug": 3},
    **{
        "recipe": "r",
        "bundle_sha256": "0" * 64,
        "rsft_version": "1",
        "created": "today",
        "notes": [],
        "bands": ["VV"],
    },
    "request": {"chips_dir": "cut", "declaration": {"unit": None, "bands": None}},
}


def write(folder, name="p.gpkg", **columns):
    rng = np.random.default_rng(0)
    paths = [
        str(
            write_geotiff(
                folder / f"{number}.tif", rng.normal(size=(20, 30)).astype(np.float32)
            )
        )
        for number in range(3)
    ]
    tug = np.array([0.1, 0.5, 0.7])
    rows = {
        "chip": ["a", "b", "c"],
        "scene": "s.tif",
        "path": paths,
        "class": ["cargo", "cargo", "tug"],
    }
    rows |= {
        "probability": np.maximum(tug, 1 - tug),
        "p_cargo": 1 - tug,
        "p_tug": tug,
        "at": [4, 5, 6],
    }
    table = pd.DataFrame(rows | columns | {"geometry": None})
    write_prediction_table(
        PredictionLayer(table, None, CLASSES, METADATA), folder / name
    )
    return folder / name


def test_page(tmp_path):
    suggestions = suggest_chips(write(tmp_path), 2)
    write_suggestion_page(tmp_path / "page.html", suggestions, "data/ships")
    text = (tmp_path / "page.html").read_text("utf-8")
    data = json.loads(
        re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1]
    )
    assert [chip["chip"] for chip in data["chips"]] == ["b", "c"] and data["can_label"]
    assert data["chips"][1]["attributes"] == {
        "at": "6",
        "reason": suggestions.table["reason"][1],
    }
    assert data["chips"][1]["path"] == str(tmp_path / "2.tif") and data["chips"][1][
        "thumb"
    ].startswith("data:image")
    assert "rsft data add data/ships corrected.csv" in text


def test_refused(tmp_path):
    page = tmp_path / "page.html"
    with pytest.raises(RequestError, match="which lacks bundle_sha256"):
        write_suggestion_page(page, suggest_chips(write(tmp_path, "p.csv"), 2), "x")
    with pytest.raises(RequestError, match=mentions("no file")):
        write_suggestion_page(
            page, suggest_chips(write(tmp_path, "s.gpkg", path="x/s.tif"), 2), "x"
        )
    with pytest.raises(RequestError, match=mentions("no file")):
        write_suggestion_page(
            page,
            suggest_chips(write(tmp_path, "g.gpkg", path="gone.tif"), 2),
            "x",
        )
    assert not page.exists()


def test_vectors_are_whole_steps():
    vectors = np.array([[1.0, -2.0], [0.5, 0.0]])
    encoded = encode_vectors(vectors)
    steps = np.frombuffer(base64.b64decode(encoded["vectors"]), "<i2")
    assert steps.tolist() == [16384, -32767, 8192, 0]
    assert (encoded["dimensions"], encoded["step"]) == (2, 2 / 32767)
    assert encoded["variance"] == pytest.approx((0.25**2 + 1) / 2)
    assert encode_vectors(np.zeros((2, 3)))["step"] == 1.0
