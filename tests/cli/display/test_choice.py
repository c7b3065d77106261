"""The lines of a choice."""

from unittest.mock import Mock

import pytest

from rsft.cli.display.choice import (
    SearchJson,
    SearchLines,
    choose_search_display,
)
from rsft.recipe.schema import DataSection, Recipe, TrainSection
from rsft.study.choice import SearchListener
from rsft.study.choice_file import AutoFile, AutoPlan, Candidate
from rsft.study.comparison import TriedCandidate

RECIPE = Recipe(
    name="LoRA", data=DataSection(root="data", size=32), train=TrainSection(epochs=8)
)


def plan_of_one(path):
    settings = AutoFile.model_validate({"method": "auto", "name": "auto"})
    return AutoPlan(settings, (Candidate(RECIPE, path),), ("class x is not measured",))


def test_plan_and_notes_come_first(tmp_path, capsys):
    with choose_search_display(plan_of_one(tmp_path), quiet=False, as_json=False):
        plan, note = capsys.readouterr().out.splitlines()
    assert "at most 10min of CPU time" in plan and note == "class x is not measured"


def test_one_line_per_run(tmp_path, capsys):
    report = Mock()
    rows = [
        TriedCandidate("small network", 8, 3, 0.841, 0.012, 0.5, 0.25, 60.0),
        TriedCandidate("LoRA", 2, 1, None, None, None, None, 0.4, fault="no weights"),
    ]
    board = SearchLines(report)
    board.on_trial(Candidate(RECIPE, tmp_path).trial(2, 3, 0.25), 31.2, 600.0)
    board.on_row(rows[0])
    board.on_row(rows[1])
    tried, failed = capsys.readouterr().out.splitlines()
    assert "macro 84.1 ± 1.2  tail 50.0 ± 25.0  CPU s 60" in tried
    assert failed.startswith("candidate LoRA: failed, no weights")
    report.assert_called_once_with(
        31, 600, "LoRA, fold 2/3, 2 epochs, CPU seconds so far"
    )


@pytest.mark.parametrize(
    ("quiet", "as_json", "kind"),
    [
        (True, False, SearchListener),
        (False, True, SearchJson),
        (False, False, SearchLines),
    ],
)
def test_kinds_of_display(tmp_path, quiet, as_json, kind):
    plan = plan_of_one(tmp_path)
    with choose_search_display(plan, quiet=quiet, as_json=as_json) as display:
        assert type(display) is kind
