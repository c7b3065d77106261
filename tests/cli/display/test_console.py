import io
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from rsft.cli.display import console, failures, waiting
from rsft.cli.display import evaluation as evaluation_display
from rsft.cli.display.failures import quiet_console
from rsft.errors import Fault, RecipeError, RsftError
from rsft.evaluation.schema import SMALL_NETWORK, Evaluation, SmallNetwork
from rsft.metrics.accuracy import summarize_accuracy
from rsft.metrics.intervals import Interval

BUNDLE = Path(__file__).parents[2] / "compat/0.2/run/bundle"


@pytest.fixture
def printed(monkeypatch):
    text = io.StringIO()
    for name in ("console", "error_console"):
        monkeypatch.setattr(console, name, Console(file=text, width=100))
    return text


def test_error_shows_message_location_and_hint(printed):
    failures.show_error(RsftError("it broke [here]", "a.tif", "fix it"))
    assert printed.getvalue().splitlines() == [
        "error: it broke [here]",
        "where: a.tif",
        "hint:  fix it",
    ]


def test_recipe_error_shows_every_fault(printed):
    failures.show_error(
        RecipeError([Fault("r.yaml", 3, "peft.rnk", "8", "did you mean peft.rank?")])
    )
    assert "r.yaml:3  peft.rnk  found 8" in printed.getvalue()
    assert "did you mean peft.rank?" in printed.getvalue()


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
    assert "100.0 ±0" in text and "75.0" in text
    small = SmallNetwork(epochs=40, macro_difference=Interval(0.031, 0.012, 0.05))
    evaluation_display.show_evaluation(
        evaluation.model_copy(update={"small_network": small}), BUNDLE
    )
    assert f"LoRA is 3.1 points above a {SMALL_NETWORK}" in printed.getvalue()


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
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert (
        lines[0][0] == "map"
        and lines[0][1].endswith("1.png")
        and lines[1][:2] == ["This", "run"]
    )
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


def test_progress_is_silent_without_a_terminal(printed):
    with console.progress() as report:
        report(1, 2, "reading")
    assert printed.getvalue().strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quiet", "expected"), [(False, ["reading: 1 of 2"]), (True, [])]
)
def test_progress_without_a_terminal_is_a_line_on_stderr(
    monkeypatch, capsys, quiet, expected
):
    monkeypatch.setattr(waiting, "FIRST_LINE_SECONDS", 0.0)
    with quiet_console(quiet), console.progress() as report:
        report(1, 2, "reading")
        time.sleep(0.3)
    assert capsys.readouterr().err.splitlines() == expected


def test_the_bar_of_a_task_of_unknown_length_is_hidden_when_the_next_one_begins(
    monkeypatch,
):
    terminal = console.PlainConsole(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(console, "console", terminal)
    with console.progress() as report:
        report(0, 0, "loading")
        report(3, 12, "classifying")
    last_picture = terminal.file.getvalue().rpartition("classifying")
    assert "3/12" in last_picture[2] and "loading" not in last_picture[0][-100:]
