import io

import pytest
from rich.console import Console

from rsft.cli.display.sweep_live import SweepDisplay
from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.schema import Sweep

SWEEP = Sweep(recipe="r", grid={"peft.rank": [2, 4], "peft.scale": [0.5, 1.0]})


def keys(rank, scale):
    return {"peft.rank": rank, "peft.scale": scale}


def done(rank, scale, value):
    return TrialOutcome(keys(rank, scale), "done", "", {"val_macro": value}, 61.4)


@pytest.fixture
def board():
    def make(**how):
        return SweepDisplay(SWEEP, 4, {"a": done(2, 0.5, 0.25)}, Console(file=io.StringIO(), width=100, **how))

    return make


def test_a_line_for_each_trial_in_a_log(board):
    with board(force_terminal=False) as shown:
        for name, rank, scale in (("b", 2, 1.0), ("c", 4, 0.5), ("d", 4, 1.0)):
            shown.on_start(name, keys(rank, scale))
        shown.on_epoch("b", {"epoch": 0, "val_macro": None})
        shown.on_end("b", done(2, 1.0, 0.755))
        shown.on_end("c", TrialOutcome(keys(4, 0.5), "failed", "the loss is [nan]"))
        shown.on_end("d", None)
    assert shown.console.file.getvalue().splitlines() == [
        "2/4  peft.rank 2  peft.scale 1.0  val_macro 75.5  61 s",
        "3/4  peft.rank 4  peft.scale 0.5  failed: the loss is [nan]",
        "3/4  peft.rank 4  peft.scale 1.0  stopped",
    ]


def test_a_table_in_a_terminal_best_first(board):
    with board(force_terminal=True) as shown:
        shown.on_start("b", keys(2, 1.0))
        shown.on_start("c", keys(4, 0.5))
        shown.on_end("b", done(2, 1.0, 0.755))
        shown.on_epoch("c", {"epoch": 2, "val_macro": 0.5})
        rendered = Console(file=io.StringIO(), width=100)
        rendered.print(shown._render())
    title, _, running, best, other = rendered.file.getvalue().splitlines()
    assert title == "2 of 4 trials have ended"
    assert running.split()[:4] == ["4", "0.5", "3", "50.0"] and "running" in running
    assert best.split() == ["2", "1.0", "75.5", "61", "s"] and other.split() == ["2", "0.5", "25.0", "61", "s"]


def test_the_smallest_loss_is_best():
    sweep = Sweep(recipe="r", grid={"peft.rank": [2, 4]}, metric="val_loss", mode="min")
    over = {
        str(rank): TrialOutcome({"peft.rank": rank}, "done", "", {"val_loss": loss})
        for rank, loss in ((2, 1.5), (4, 0.5))
    }
    rendered = Console(file=io.StringIO(), width=100)
    rendered.print(SweepDisplay(sweep, 2, over, rendered)._render())
    assert rendered.file.getvalue().splitlines()[2].split() == ["4", "0.500", "0", "s"]
