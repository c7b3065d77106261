import itertools

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.study.figures import draw_figures, make_panels
from rsft.study.outcomes import TrialOutcome
from rsft.study.sweep_file import Sweep
from rsft.study.tables import (
    compared_keys,
    mean_over_seeds,
    results_table,
    write_results,
)

SWEEP = Sweep(
    recipe="r",
    grid={"peft.positions": ["q", 1], "peft.scale": [0.5, 1, "1/r"]},
    seeds=[0, 1],
)


def outcomes(sweep=SWEEP, failed=("q", "1/r")):
    by_id = {}
    grid = itertools.product(
        enumerate(sweep.grid["peft.positions"]),
        enumerate(sweep.grid["peft.scale"]),
        sweep.seeds,
    )
    for (row, position), (column, scale), seed in grid:
        keys = {"peft.positions": position, "peft.scale": scale, "seed": seed}
        value = 0.5 + 0.1 * row + 0.05 * column + 0.01 * seed
        outcome = TrialOutcome(
            keys,
            "done",
            "",
            {"val_macro": value, "val_tail": 1 - value, "val_loss": 2.0},
            9.0,
        )
        if (position, scale) == failed:
            outcome = TrialOutcome(keys, "failed", "the loss is nan")
        by_id[f"{position}{column}{seed}"] = outcome
    return by_id


def panels_of(sweep, trials, measures):
    """Return the heat maps of the outcomes of trials."""
    means = mean_over_seeds(
        results_table(sweep, trials), compared_keys(sweep), measures
    )
    return make_panels(sweep, means, measures)


def test_table_has_one_row_per_trial(tmp_path):
    table = results_table(SWEEP, outcomes())
    write_results(tmp_path, SWEEP, table, ["val_loss"])
    again = pd.read_parquet(tmp_path / "results.parquet")
    assert list(again)[:6] == [
        "id",
        "peft.positions",
        "peft.scale",
        "seed",
        "status",
        "reason",
    ]
    assert again["peft.scale"].tolist()[:6] == [
        "0.5",
        "0.5",
        "1",
        "1",
        "1/r",
        "1/r",
    ]  # text, because one of them is
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


def test_heat_map_has_the_order_of_the_grid():
    (panel,) = panels_of(SWEEP, outcomes(failed=("1", 0.5)), ["val_macro"])
    rows, columns = panel.values.index, panel.values.columns
    assert (rows.name, list(rows)) == ("peft.positions", ["q", "1"])
    assert (columns.name, list(columns)) == ("peft.scale", ["0.5", "1", "1/r"])
    np.testing.assert_allclose(
        panel.values, [[0.505, 0.555, 0.605], [0.605, 0.655, 0.705]]
    )
    assert panel.optima("max") == [(1, 2)] and panel.optima("min") == [(0, 0)]
    (panel,) = panels_of(SWEEP, outcomes(), ["val_macro"])
    assert np.isnan(panel.values.iloc[0, 2]) and panel.values.notna().sum().sum() == 5
    assert panel.optima("max") == [(1, 2)]


def test_measures_are_the_columns_of_a_single_key():
    sweep = Sweep(recipe="r", grid={"peft.positions": ["q", "v"]})
    trials = {
        name: TrialOutcome(
            {"peft.positions": name}, "done", "", {"val_head": head, "val_tail": tail}
        )
        for name, head, tail in (("q", 0.9, 0.2), ("v", 0.8, 0.3))
    }
    (panel,) = panels_of(sweep, trials, ["val_head", "val_tail"])
    assert panel.optima("max") == [(0, 0), (1, 1)]


def test_each_measure_and_other_key_has_a_panel():
    sweep = Sweep(
        recipe=["a", "b"],
        grid={"peft.rank": [2, 4], "peft.scale": [1.0, 2.0]},
        y="peft.scale",
    )
    trials = {}
    for name, rank, scale in itertools.product("ab", (2, 4), (1.0, 2.0)):
        keys = {"recipe": name, "peft.rank": rank, "peft.scale": scale}
        trials[f"{name}{rank}{scale}"] = TrialOutcome(
            keys, "done", "", {"macro": rank * scale / 10, "tail": 0.1}
        )
    maps = panels_of(sweep, trials, ["macro", "tail"])
    assert [panel.title for panel in maps] == [
        "a, macro",
        "a, tail",
        "b, macro",
        "b, tail",
    ]
    np.testing.assert_allclose(maps[2].values, [[0.2, 0.4], [0.4, 0.8]])
    assert (
        maps[0].values.index.name == "peft.scale"
        and maps[0].values.columns.name == "peft.rank"
    )


@pytest.mark.slow
@pytest.mark.parametrize("search", [False, True])
def test_figures(tmp_path, search):
    sweep = SWEEP
    trial_outcomes = outcomes()
    if search:
        space = {"train.lr": {"log": [1e-3, 1.0]}, "peft.rank": {"integer": [1, 9]}}
        sweep = Sweep(recipe="r", search=space, trials=30)
        rates = np.geomspace(1e-3, 1, 30)
        trial_outcomes = {
            str(i): TrialOutcome(
                {"train.lr": lr, "peft.rank": 1 + i % 9},
                "done",
                "",
                {"val_macro": 0.1},
                1.0,
            )
            for i, lr in enumerate(rates)
        }
    folder = tmp_path / "some"
    folder.mkdir()
    paths = draw_figures(
        folder, sweep, results_table(sweep, trial_outcomes), ["val_macro"]
    )
    image = cv2.imread(str(paths["png"]))
    red = (image[..., 2] > 200) & (image[..., 1] < 60) & (image[..., 0] < 60)
    assert red.sum() > 100  # the optimum
    assert paths["svg"].read_text().startswith("<?xml")


def test_no_figure_without_a_finished_trial(tmp_path):
    assert draw_figures(tmp_path, SWEEP, results_table(SWEEP, {}), []) == {}
