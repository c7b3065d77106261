"""Labels that an audit contradicts are suggested, the most doubtful first."""

import json
import re
from functools import partial

import numpy as np
import pytest

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore
from rsft.plugins.suggestions.label_check import (
    suggest_audited_labels,
)
from rsft.plugins.suggestions.page import write_suggestion_page

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
    suggestions = suggest_audited_labels(store, chips, probabilities, ["a note"], 9)
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
    assert suggestions.predictions["probability"].tolist() == [1.0, 0.9, 0.8, 0.6]
    assert (
        suggestions.predictions["chip"].tolist()
        == chips["path"].iloc[[5, 4, 2, 3]].tolist()
    )
    assert suggestions.notes == ["a note", "labels that are contradicted: 4 of 6"]
    first = suggest_audited_labels(store, chips, probabilities, [], 1)
    assert len(first.table) == len(first.predictions) == 1
    assert first.notes == ["labels that are contradicted: 4 of 6"]
    write_suggestion_page(tmp_path / "page.html", suggestions, str(root))
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
