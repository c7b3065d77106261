"""The heat maps of a sweep."""

import itertools

import cv2
import numpy as np
import pytest

from rsft.study.figures import draw_figures, make_panels
from rsft.study.outcomes import TrialOutcome
from rsft.study.sweep_file import Sweep
from rsft.study.tables import (
    compared_keys,
    mean_over_seeds,
    results_table,
)
from tests.helpers.sweeps import SWEEP, outcomes


def panels_of(sweep, trials, measures):
    """Return the heat maps of the outcomes of trials."""
    means = mean_over_seeds(
        results_table(sweep, trials), compared_keys(sweep), measures
    )
    return make_panels(sweep, means, measures)


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
