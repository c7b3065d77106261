"""Labels that a bundle contradicts are suggested, the most doubtful first."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.inference.engines.base import REFERENCE
from rsft.inference.engines.graph import LoadedEngine
from rsft.inference.predict.predictor import Predictor
from rsft.plugins.suggestions.label_check import (
    suggest_audited_labels,
    suggest_label_checks,
)
from rsft.plugins.suggestions.page import write_suggestion_page
from tests.helpers.messages import mentions
from tests.helpers.scenes import CLASSES, brightness_logits, toy_bundle, toy_contract

CHIPS = {"dark": (5, 10, 250), "bright": (240, 100), "odd": (1,)}


def read_flat(value):
    pixels = np.full((9, 9, 1), value, np.uint8)
    pixels[0, 0] += 1  # chips of one value are refused
    return pixels


@pytest.fixture
def root(tmp_path):
    labels = tmp_path / "labels.txt"
    records = [
        ChipRecord(
            f"{name}-{value}",
            "val" if value == 100 else "train",
            name,
            labels,
            partial(read_flat, value),
        )
        for name, values in CHIPS.items()
        for value in values
    ]
    for record in records:
        record.extra_columns["group_key"] = f"scene {record.name[0]}"
    return build_store(
        tmp_path / "store", records, StoreDescription("x", tuple(CHIPS), "x")
    ).root


def make_predictor(classes=CLASSES, band="gray"):
    contract = toy_contract(bands=(band,), planes=(band,) * 3)
    bundle: Any = toy_bundle(classes=classes, contract=contract)
    return Predictor(bundle, LoadedEngine(brightness_logits, contract, REFERENCE))


def test_contradicted_labels(root):
    suggestions = suggest_label_checks(root, make_predictor(), 9)
    assert [Path(path).stem for path in suggestions.table["path"]] == [
        "dark-250",
        "bright-100",
    ]
    assert suggestions.table["predicted"].tolist() == ["bright", "dark"]
    assert suggestions.table["scene"].tolist() == ["scene d", "scene b"]
    assert suggestions.table["reason"][0] == "labeled dark 2 %, predicted bright 98 %"
    assert all(Path(path).is_file() for path in suggestions.table["path"])
    assert suggestions.candidates == 5 and suggestions.notes == [
        "chips whose labels are not classes of the bundle: 1",
        "labels that are contradicted: 2 of 5",
    ]


def test_count(root):
    assert suggest_label_checks(root, make_predictor(), 1).predictions[
        "chip"
    ].tolist() == ["dark-250.png"]


def test_refused(root, tmp_path):
    with pytest.raises(RequestError, match=mentions("no label")) as refused:
        suggest_label_checks(root, make_predictor(("ship", "boat")), 9)
    assert "ship, boat" in refused.value.hint
    with pytest.raises(RequestError, match=mentions("classify no chip")):
        suggest_label_checks(root, make_predictor(band="VV"), 9)
    with pytest.raises(RequestError, match="not a chip store"):
        suggest_label_checks(tmp_path, make_predictor(), 9)


def test_labels_that_an_audit_contradicts(root, tmp_path):
    store = ChipStore.open(root)
    chips = store.table
    probabilities = np.array(
        [
            [0.1, 0.9, 0],
            [0.7, 0.3, 0],
            [0.2, 0.8, 0],
            [0.4, 0.6, 0],
            [0.9, 0.1, 0],
            [0, 0, 1.0],
        ]
    )
    suggestions = suggest_audited_labels(store, chips, probabilities, ["a note"])
    assert chips["class"].tolist() == [
        "bright",
        "dark",
        "dark",
        "dark",
        "odd",
        "bright",
    ]
    assert suggestions.table["label"].tolist() == ["bright", "odd", "dark", "dark"]
    assert suggestions.table["predicted"].tolist() == [
        "odd",
        "dark",
        "bright",
        "bright",
    ]
    assert suggestions.table["probability"].tolist() == [1.0, 0.9, 0.8, 0.6]
    assert suggestions.table["label_probability"].tolist() == [0, 0, 0.2, 0.4]
    assert (
        suggestions.predictions["chip"].tolist()
        == chips["path"].iloc[[5, 4, 2, 3]].tolist()
    )
    assert suggestions.notes == ["a note", "labels that are contradicted: 4 of 6"]
    assert len(suggestions.head(1).table) == len(suggestions.head(1).predictions) == 1
    write_suggestion_page(tmp_path / "page.html", suggestions, None, str(root))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert (
        '<option value="ranked">as suggested</option>' in page
        and "Recipe label audit, rsft" in page
    )
    data = json.loads(re.findall(r'<script id="data"[^>]*>(.*?)</script>', page)[0])
    assert [chip["class"] for chip in data["chips"]] == [
        "odd",
        "dark",
        "bright",
        "bright",
    ]
    assert (
        data["chips"][0]["attributes"]["reason"]
        == "labeled bright 0 %, predicted odd 100 %"
    )
