"""The heat maps of a sweep."""

import itertools

import cv2
import numpy as np
import pytest

from rsft.plugins.sweeps.figures import draw_figures, make_panels
from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.plugins.sweeps.tables import (
    compared_keys,
    mean_over_seeds,
    results_table,
)
from rsft.study.outcomes import TrialOutcome
from tests.plugins.sweeps.example import SWEEP, outcomes


def panels_of(sweep, trials, measures):
    """Return the heat maps of the outcomes of trials."""
    means = mean_over_seeds(
        results_table(sweep, trials), compared_keys(sweep), measures
    )
    return make_panels(sweep, means, measures)


def test_heat_map_has_the_order_of_the_grid():
    table = panels_of(SWEEP, outcomes(failed=("1", 0.5)), ["val_macro"])["val_macro"]
    assert (table.index.name, list(table.index)) == ("peft.positions", ["q", "1"])
    assert (table.columns.name, list(table)) == ("peft.scale", ["0.5", "1", "1/r"])
    np.testing.assert_allclose(table, [[0.505, 0.555, 0.605], [0.605, 0.655, 0.705]])
    table = panels_of(SWEEP, outcomes(), ["val_macro"])["val_macro"]
    assert np.isnan(table.iloc[0, 2]) and table.notna().sum().sum() == 5


def test_a_single_key_has_no_heat_map(tmp_path):
    sweep = Sweep(recipe="r", grid={"peft.positions": ["q", "v"]})
    trials = {
        name: TrialOutcome({"peft.positions": name}, "done", "", {"val_macro": 0.5})
        for name in "qv"
    }
    table = results_table(sweep, trials)
    assert draw_figures(tmp_path, sweep, table, ["val_macro"]) == {}


def test_each_measure_has_a_panel_and_other_keys_are_rows():
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
    assert list(maps) == ["macro", "tail"]
    table = maps["macro"]
    assert table.index.names == ["recipe", "peft.scale"]
    assert table.columns.name == "peft.rank"
    np.testing.assert_allclose(table.loc["b"], [[0.2, 0.4], [0.4, 0.8]])


@pytest.mark.slow
def test_figures(tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    table = results_table(SWEEP, outcomes())
    paths = draw_figures(folder, SWEEP, table, ["val_macro"])
    image = cv2.imread(str(paths["png"]))
    red = (image[..., 2] > 200) & (image[..., 1] < 60) & (image[..., 0] < 60)
    assert red.sum() > 100  # the optimum
    assert paths["svg"].read_text().startswith("<?xml")


@pytest.mark.parametrize("x", ["peft", "data.size"])
def test_labels_of_methods_leave_room_for_the_map(tmp_path, x):
    tuner = {"method": "hf", "config": {"peft_type": "OFT", "oft_block_size": 8}}
    grid = {"peft": [{"method": "lora", "rank": 4}, tuner], "data.size": [32, 48]}
    sweep = Sweep(recipe="r", grid=grid, x=x)
    trials = {
        f"{number}": TrialOutcome(keys, "done", "", {"val_macro": 0.5 + number / 10})
        for number, keys in enumerate(
            {"peft": method, "data.size": size}
            for method, size in itertools.product(*grid.values())
        )
    }
    table = results_table(sweep, trials)
    paths = draw_figures(tmp_path, sweep, table, ["val_macro"])  # no warning
    image = cv2.imread(str(paths["png"]))
    yellow = (image == (36, 231, 253)).all(2)  # the best cell, in viridis
    assert yellow.sum() > 0.5 * 0.3 * 150**2


def test_no_figure_without_a_finished_trial(tmp_path):
    assert draw_figures(tmp_path, SWEEP, results_table(SWEEP, {}), []) == {}


def test_a_search_over_many_values_has_no_figure(tmp_path):
    sweep = Sweep(recipe="r", search={"train.lr": {"log": [1e-3, 1.0]}}, trials=30)
    trials = {
        str(lr): TrialOutcome({"train.lr": lr}, "done", "", {"val_macro": 0.1}, 1.0)
        for lr in np.geomspace(1e-3, 1, 30)
    }
    table = results_table(sweep, trials)
    assert draw_figures(tmp_path, sweep, table, ["val_macro"]) == {}
