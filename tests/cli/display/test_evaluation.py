"""Accuracies of a bundle as tables and sentences."""

import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rsft.cli.display import console
from rsft.cli.display import evaluation as evaluation_display
from rsft.evaluation.schema import SMALL_NETWORK, Evaluation, SmallNetwork
from rsft.inference.export.export import AccuracyChange
from rsft.metrics.accuracy import summarize_accuracy
from rsft.metrics.intervals import Interval
from tests.helpers.plugins import needs_plugin

BUNDLE = Path(__file__).parents[2] / "compat/0.2/run/bundle"


@pytest.fixture
def printed(monkeypatch):
    text = io.StringIO()
    for name in ("console", "error_console"):
        monkeypatch.setattr(console, name, Console(file=text, width=100))
    return text


@needs_plugin("trackers")
def test_the_table_of_accuracies_omits_empty_groups(printed):
    import numpy as np

    labels = np.array([0, 0, 1, 1])
    methods = {
        "LoRA": summarize_accuracy(
            np.array([0, 0, 1, 0]), labels, 2, {"head": [0], "tail": [1]}
        )
    }
    chips = {
        "data": "data/x",
        "split": "val",
        "count": 4,
        "classes": ("a", "b"),
        "train_counts": (9, 1),
    }
    groups = {"head": [0], "medium": [], "tail": [1]}
    evaluation = Evaluation(
        **chips, groups=groups, methods=methods, confusion=[[2, 0], [1, 1]]
    )
    printed.write("")
    evaluation_display.show_evaluation(evaluation, BUNDLE)
    text = printed.getvalue()
    assert (
        "medium" not in text
        and "small network" not in text
        and "map " not in text
        and "gain" not in text
    )
    assert (
        text.index("This run trained")
        < text.index("It classifies 75.0 % of 4 val chips")
        < text.index("method")
    )
    assert "100.0" in text and "±0" not in text and "75.0 ±25" in text
    small = SmallNetwork(epochs=40, macro_difference=Interval(0.031, 0.012, 0.05))
    evaluation_display.show_evaluation(
        evaluation.model_copy(update={"small_network": small}), BUNDLE
    )
    assert f"LoRA is above a {SMALL_NETWORK}" in printed.getvalue()


@needs_plugin("trackers")
def test_the_map_is_first_and_gains_over_the_baselines_have_a_column(printed, tmp_path):
    import numpy as np

    labels = np.array([0, 0, 0, 1])
    predicted = {"LoRA": np.array([0, 0, 0, 0]), "plain k-NN": np.array([1, 0, 0, 1])}
    methods = {
        name: summarize_accuracy(x, labels, 2, {"head": [0], "tail": [1]})
        for name, x in predicted.items()
    }
    chips = {
        "data": "data/x",
        "split": "val",
        "count": 4,
        "classes": ("a", "b"),
        "train_counts": (9, 1),
    }
    gain = {
        "plain k-NN": {"macro": Interval(-0.333, -0.9, 0.1), "micro": Interval(0, 0, 0)}
    }
    groups = {"head": [0], "tail": [1]}
    confusion = [[3, 0], [1, 0]]
    evaluation = Evaluation(
        **chips, groups=groups, methods=methods, confusion=confusion, differences=gain
    )
    shutil.copytree(BUNDLE, tmp_path / "001/bundle")
    (tmp_path / "001/maps").mkdir()
    evaluation_display.show_evaluation(evaluation, tmp_path)
    text = printed.getvalue()
    assert re.match(r"map\s+\S+1\.png\s+This run ", text)  # a long path has a line
    lines = [line.split() for line in text.splitlines()]
    assert [
        "method",
        "overall",
        "macro",
        "head",
        "tail",
        "gain",
        "in",
        "macro",
    ] in lines
    assert next(line for line in lines if line[:2] == ["plain", "k-NN"])[-2:] == [
        "-33.3",
        "±50",
    ]


@needs_plugin("trackers")
def test_one_column_for_overall_and_macro_accuracy_if_they_are_equal(printed):
    import numpy as np

    labels = np.array([0, 0, 1, 1])
    methods = {"LoRA": summarize_accuracy(np.array([0, 0, 1, 0]), labels, 2, {})}
    chips = {
        "data": "data/x",
        "split": "val",
        "count": 4,
        "classes": ("a", "b"),
        "train_counts": (9, 1),
    }
    evaluation_display.show_evaluation(
        Evaluation(**chips, groups={}, methods=methods, confusion=[[2, 0], [1, 1]]),
        BUNDLE,
    )
    assert "overall" in printed.getvalue() and "macro" not in printed.getvalue()


def test_the_table_of_a_quantization(printed):
    changes = {
        "all": AccuracyChange(0.9, 0.895, 1200, 15),
        "tail": AccuracyChange(0.5, 0.51234, 20, 1),
        "head": AccuracyChange(0.5, 0.5, 20, 0),
    }
    console.console.print(evaluation_display.changes_table(changes))
    rows = [line.split() for line in printed.getvalue().splitlines()]
    assert ["all", "1,200", "15", "90.00", "89.50", "-0.50"] in rows
    assert ["tail", "20", "1", "50.00", "51.23", "+1.23"] in rows
    assert ["head", "20", "0", "50.00", "50.00", "+0.00"] in rows


def test_the_table_of_a_comparison(printed):
    differences = {
        "micro": Interval(0.0123, -0.01, 0.034),
        "tail": Interval(-0.5, -0.6, -0.4),
    }
    test = SimpleNamespace(first=1234, second=7, p=0.01234)
    paired = SimpleNamespace(differences=differences, mcnemar={"all": test})
    comparison = SimpleNamespace(count=2000, second="runs/b", paired=paired)
    console.console.print(evaluation_display.comparison_table(comparison))
    lines = printed.getvalue().splitlines()
    assert "2,000 chips: this run minus runs/b" in " ".join(lines[0].split())
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "+1.2 -1.0 to +3.4 0.012" in text
    assert "-50.0 -60.0 to -40.0" in text
