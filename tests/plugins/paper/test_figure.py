"""Figure 1a: bubbles from the trials of a table."""

import pytest

from rsft.plugins.paper.cells import (
    TableSettings,
    cell_trials,
    read_tables,
    table_cells,
)
from rsft.plugins.paper.figure import (
    LARGEST_AREA,
    SMALLEST_AREA,
    bubble_area,
    list_bubbles,
)
from rsft.plugins.paper.runs import TableRuns
from rsft.study.outcomes import TrialOutcome

TABLE = read_tables()["Figure-1a"]


def save_outcomes(results, settings, accuracies):
    """Save (avg, tail) of each seed by row; a failed run has None."""
    for cell in table_cells(TABLE):
        for trial, values in zip(
            cell_trials(cell, settings), accuracies.get(cell.row, ()), strict=False
        ):
            outcome = TrialOutcome(
                trial.keys,
                "done",
                metrics=dict(zip(("avg", "tail"), values, strict=True)),
            )
            folder = results / "trials" / trial.id
            folder.mkdir(parents=True)
            outcome.save(folder)


def test_bubbles_of_finished_runs(tmp_path):
    settings = TableSettings("", (), (0, 1, 2))
    accuracies = {
        "LoRA": [(0.90, 0.80), (0.92, 0.84), (0.94, 0.88)],
        "BitFit": [(0.8, 0.7)],
        "VPT-Deep": [],
    }
    save_outcomes(tmp_path, settings, accuracies)
    bitfit, lora = list_bubbles(TableRuns(TABLE, settings, tmp_path))
    assert (bitfit.name, bitfit.kind, bitfit.variance, bitfit.runs) == (
        "BitFit",
        "not additive",
        None,
        1,
    )
    assert (lora.name, lora.kind, lora.runs, lora.label) == (
        "LoRA",
        "additive",
        3,
        "LoRA ± 2.0",
    )
    assert (lora.overall, lora.tail, lora.variance) == pytest.approx((92.0, 84.0, 4.0))


def test_areas_are_proportional_to_the_variance():
    assert (
        bubble_area(4.0, 4.0) == LARGEST_AREA
        and bubble_area(1.0, 4.0) == LARGEST_AREA / 4
    )
    assert (
        bubble_area(0.0, 4.0)
        == bubble_area(None, 4.0)
        == bubble_area(0.0, 0.0)
        == SMALLEST_AREA
    )
