import io

import pytest
from rich.console import Console

from rsft.cli.display.sweep import SweepDisplay
from rsft.study.outcomes import TrialOutcome
from rsft.study.sweep_file import Sweep

SWEEP = Sweep(recipe="r", grid={"peft.rank": [2, 4], "peft.scale": [0.5, 1.0]})


def keys(rank, scale):
    return {"peft.rank": rank, "peft.scale": scale}


def finished(rank, scale, value):
    return TrialOutcome(keys(rank, scale), "done", "", {"val_macro": value}, 61.4)


@pytest.fixture
def make_display():
    def make(**options):
        console = Console(file=io.StringIO(), width=100, markup=False, **options)
        return SweepDisplay(SWEEP, 4, {"a": finished(2, 0.5, 0.25)}, console)

    return make


def test_log_has_one_line_per_trial(make_display):
    with make_display(force_terminal=False) as display:
        for name, rank, scale in (("b", 2, 1.0), ("c", 4, 0.5), ("d", 4, 1.0)):
            display.on_start(name, keys(rank, scale))
        display.on_epoch("b", {"epoch": 0, "val_macro": None})
        display.on_end("b", finished(2, 1.0, 0.755))
        display.on_end("c", TrialOutcome(keys(4, 0.5), "failed", "the loss is [nan]"))
        display.on_end("d", None)
    assert display.console.file.getvalue().splitlines() == [
        "2/4  peft.rank 2  peft.scale 1.0  val_macro 75.5  61 s",
        "3/4  peft.rank 4  peft.scale 0.5  failed: the loss is [nan]",
        "3/4  peft.rank 4  peft.scale 1.0  stopped",
    ]


def test_terminal_shows_a_table_with_the_best_trial_first(make_display):
    with make_display(force_terminal=True) as display:
        display.on_start("b", keys(2, 1.0))
        display.on_start("c", keys(4, 0.5))
        display.on_end("b", finished(2, 1.0, 0.755))
        display.on_epoch("c", {"epoch": 2, "val_macro": 0.5})
        rendered = Console(file=io.StringIO(), width=100)
        rendered.print(display._render())
    title, _, running, best, other = rendered.file.getvalue().splitlines()
    assert title == "2 of 4 trials have ended"
    assert running.split()[:4] == ["4", "0.5", "3", "50.0"] and "running" in running
    assert best.split() == ["2", "1.0", "75.5", "61", "s"] and other.split() == [
        "2",
        "0.5",
        "25.0",
        "61",
        "s",
    ]


def test_smallest_loss_is_best():
    sweep = Sweep(recipe="r", grid={"peft.rank": [2, 4]}, metric="val_loss", mode="min")
    outcomes = {
        str(rank): TrialOutcome({"peft.rank": rank}, "done", "", {"val_loss": loss})
        for rank, loss in ((2, 1.5), (4, 0.5))
    }
    rendered = Console(file=io.StringIO(), width=100)
    rendered.print(SweepDisplay(sweep, 2, outcomes, rendered)._render())
    assert rendered.file.getvalue().splitlines()[2].split() == ["4", "0.500", "0", "s"]
