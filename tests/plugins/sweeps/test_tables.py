"""The tables of a sweep: one row per trial, and means over seeds."""

import pandas as pd
from pyarrow.parquet import read_schema

from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.plugins.sweeps.tables import results_table, write_results
from rsft.study.outcomes import TrialOutcome
from tests.plugins.sweeps.example import SWEEP, outcomes


def test_table_has_one_row_per_trial(tmp_path):
    table = results_table(SWEEP, outcomes())
    write_results(tmp_path, SWEEP, table, ["val_loss"])
    again = pd.read_parquet(tmp_path / "results.parquet")
    assert read_schema(tmp_path / "results.parquet").names == list(table)
    assert list(again)[:6] == [
        "id",
        "peft.positions",
        "peft.scale",
        "seed",
        "status",
        "reason",
    ]
    # text, because one of them is
    assert again["peft.scale"].tolist()[:6] == [
        "0.5",
        "0.5",
        "1",
        "1",
        "1/r",
        "1/r",
    ]
    assert (
        again["peft.positions"].unique().tolist() == ["q", "1"]
        and again["seed"].tolist() == [0, 1] * 6
    )
    assert again["status"].value_counts().to_dict() == {"done": 10, "failed": 2}
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[0] == "| peft.positions | peft.scale | val_macro | val_loss | runs |"
    assert lines[2] == "| 1 | 1/r | 70.5 | 2.000 | 2 |"
    assert (
        lines[-1] == "Failed: peft.positions q, peft.scale 1/r, seed 1: the loss is nan"
    )


def test_trials_that_the_scheduler_stopped_are_listed(tmp_path):
    stopped = TrialOutcome(
        {"peft.rank": 2}, "stopped", "stopped early by asha", {"val_macro": 0.9}
    )
    done = TrialOutcome({"peft.rank": 4}, "done", "", {"val_macro": 0.5}, 1.0)
    sweep = Sweep(recipe="r", grid={"peft.rank": [2, 4]})
    table = results_table(sweep, {"a": stopped, "b": done})
    write_results(tmp_path, sweep, table, [])
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[2:] == [
        "| 4 | 50.0 | 1 |",
        "",
        "Stopped: peft.rank 2: stopped early by asha",
    ]
    assert pd.read_parquet(tmp_path / "results.parquet")["val_macro"].tolist() == [
        0.9,
        0.5,
    ]
