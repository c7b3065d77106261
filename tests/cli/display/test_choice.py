"""The table of a choice in a terminal."""

import io

from rich.console import Console

from rsft.cli.display.choice import (
    SearchDisplay,
    SearchJson,
    SearchLines,
    choose_search_display,
    search_table,
)
from rsft.recipe.schema import DataSection, Recipe, TrainSection
from rsft.study.choice_file import AutoFile, AutoPlan, Candidate
from rsft.study.comparison import TriedCandidate

RECIPE = Recipe(
    name="LoRA", data=DataSection(root="data", size=32), train=TrainSection(epochs=8)
)
ROW = TriedCandidate("LoRA", 2, 1, 0.784, None, None, None, 12.4)


def plan_of_one(path):
    settings = AutoFile.model_validate({"method": "auto", "name": "auto"})
    return AutoPlan(settings, (Candidate(RECIPE, path),), ("class x is not measured",))


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=30)


def test_table_and_progress(tmp_path):
    console = terminal()
    with choose_search_display(
        plan_of_one(tmp_path), console, quiet=False, as_json=False
    ) as board:
        board.on_trial(Candidate(RECIPE, tmp_path).trial(2, 3, 0.25), 31.2, 600.0)
        board.on_progress(3, 40, "reading chips")
        board.live.refresh()
        board.on_table(
            [ROW, TriedCandidate("small network", 8, 3, 0.841, 0.012, 0.5, 0.25, 60.0)],
            1,
        )
    printed = console.file.getvalue()
    assert (
        "class x is not measured" in printed and "at most 10min of CPU time" in printed
    )
    assert (
        "LoRA, fold 2/3, 2 epochs, 31 of 600 CPU seconds  reading chips 3/40" in printed
    )
    last = printed[printed.rindex("recall in %") :]
    assert (
        "84.1 ± 1.2" in last
        and "50.0 ± 25.0" in last
        and "78.4" in last
        and "CPU seconds" not in last
    )


def test_a_log_names_the_running_candidate(tmp_path, monkeypatch):
    monkeypatch.setattr("rsft.cli.display.waiting.FIRST_LINE_SECONDS", 0.0)
    board = SearchLines(plan_of_one(tmp_path), Console(file=io.StringIO(), width=100))
    board.on_trial(Candidate(RECIPE, tmp_path).trial(2, 3, 0.25), 31.2, 600.0)
    assert (
        board.waiting.next_line()
        == "LoRA, fold 2/3, 2 epochs, CPU seconds so far: 31 of 600"
    )


def test_a_failed_candidate_has_its_reason():
    console = Console(file=io.StringIO(), width=200)
    console.print(
        search_table(
            [
                TriedCandidate(
                    "LoRA", 2, 1, None, None, None, None, 0.4, fault="no weights"
                )
            ]
        )
    )
    assert "LoRA: failed, no weights" in console.file.getvalue()


def test_kinds_of_display(tmp_path):
    plain = Console(file=io.StringIO(), width=200)
    kinds = [
        type(
            choose_search_display(
                plan_of_one(tmp_path), plain, quiet=quiet, as_json=as_json
            )
        )
        for quiet, as_json in ((True, False), (False, True), (False, False))
    ]
    assert kinds == [SearchDisplay, SearchJson, SearchLines]
