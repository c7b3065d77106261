"""What is printed of a bundle."""

import io

import pytest
from rich.console import Console

from rsft.cli.display import bundles

DESCRIPTION = {
    "folder": "runs/a/001/bundle",
    "sha256": "ab" * 32,
    "name": "ships [x]",
    "rsft_version": "0.2.0",
    "runs": 1,
    "bytes": 2_345_678,
    "parameters": 12345,
    "backbone": {"name": "vit", "sha256": "0123456789abcdef"},
    "licenses": [
        {"source": "data", "name": "MSTAR", "license": "MIT", "restrictions": []}
    ],
    "method": {"method": "lora", "rank": 4, "alpha": None},
    "chip": {"size": "64 x 64 pixels"},
    "metrics": None,
    "confidence": None,
    "ignored": {},
    "classes": [
        {"name": "cargo", "group": "head", "train": 1200},
        {"name": "tug", "group": None, "train": 3},
    ],
}


@pytest.fixture
def printed(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(bundles, "console", Console(file=text, width=200))
    return text


def test_rows_of_a_bundle():
    rows = bundles.describe_rows(DESCRIPTION)
    assert rows["recipe"] == "ships [x], rsft 0.2.0"
    assert rows["size"] == "2.3 MB, 12,345 parameters"
    assert rows["backbone"] == "vit  0123456789ab"
    assert rows["method"] == "lora, rank 4" and rows["chip, size"] == "64 x 64 pixels"
    assert rows["license, data"].startswith("MSTAR: ")
    assert rows["accuracy"] == "not measured" and "not calibrated" in rows["confidence"]
    assert "ignored" not in rows


def test_rows_of_a_measured_average_of_a_stranger():
    interval = {"value": 0.905, "low": 0.9, "high": 0.91}
    changed = DESCRIPTION | {
        "runs": 3,
        "metrics": {"micro": interval, "chips": 1234, "split": "test"},
        "confidence": {
            "temperature": 1.2345,
            "chips": 5000,
            "promise": "90 % of each class",
            "notes": ["few chips"],
        },
        "ignored": {"data.workers": 3, "train.device": "cuda"},
    }
    rows = bundles.describe_rows(changed)
    assert rows["recipe"].endswith("average of 3 runs")
    assert rows["accuracy"].endswith("90.5 % on 1,234 chips of test")
    expected = "temperature 1.23, fitted on 5,000 validation chips; 90 % of each class"
    assert rows["confidence"] == f"{expected}; few chips"
    assert rows["ignored"].startswith("data.workers 3, train.device cuda: ")


def test_classes(printed):
    bundles.show_bundle(DESCRIPTION)
    lines = printed.getvalue().splitlines()
    assert any(line.split() == ["cargo", "head", "1,200"] for line in lines)
    assert any(line.split() == ["tug", "-", "3"] for line in lines)


def test_a_bundle_of_a_thousand_classes_takes_forty_lines(printed):
    classes = [
        {"name": f"class {number}", "group": "tail", "train": 3}
        for number in range(1_000)
    ]
    bundles.show_bundle(DESCRIPTION | {"classes": classes})
    lines = printed.getvalue().splitlines()
    assert len(lines) <= 40
    assert any("985 more in bundle.json" in line for line in lines)
