"""Tables of the paper: printed numbers, cells that equal the shipped sweeps, and our
numbers beside the paper's."""

import json
import statistics

import pytest

from rsft.peft.sites import select_positions
from rsft.plugins.sweeps.paper import runs as table_runs
from rsft.plugins.sweeps.paper.cells import (
    TableSettings,
    build_recipe,
    cell_trials,
    read_tables,
    table_cells,
    table_name,
)
from rsft.plugins.sweeps.sweep_file import read_sweep
from rsft.plugins.sweeps.trial_list import list_trials
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.study.outcomes import RECIPE, TrialOutcome
from rsft.training.runs.reader import hash_data
from tests.helpers.executors import ExecutorHere
from tests.helpers.plugins import needs_plugin

TABLES = read_tables()
SWEEPS = {
    **{
        "1": "table_1_modules",
        "2": "table_2_positions",
        "3": "table_3_blocks",
        "6": "table_6_ratio",
    },
    **{
        "S1": "table_s1_sampling",
        "S3": "table_s3_positions",
        "S4": "table_s4_attention",
        "S5": "table_s5_ffn",
    },
    **{
        "Figure-1c": "depth_position",
        "Figure-1d": "position_scale",
        "Figure-S2": "rank_scale",
    },
}
MEAN_ERRORS = {"2": 0.3, "3": 0.11, "S3": 0.91, "S6": 0.91}
"""Largest difference between an average that the paper prints and the mean of its
columns, by table."""


@pytest.mark.parametrize("number", TABLES)
def test_paper_numbers_match_columns_and_means(number):
    table = TABLES[number]
    for row in table.rows:
        paper = table.paper_values(row)
        means = {("", name): kind for name, kind in table.means.items()}
        means |= {
            (name, "avg"): name
            for name in table.sets
            if len(table.sets) == 1 and (name, "head") in paper
        }
        for column, kind in means.items():
            parts = [
                value
                for (name, of), value in paper.items()
                if name and of != "avg" and kind in ("all", name, of)
            ]
            if None not in parts:
                assert paper[column] == pytest.approx(
                    statistics.mean(parts), abs=MEAN_ERRORS.get(number, 0.06)
                )


@needs_plugin("natural_images")
@pytest.mark.parametrize(("number", "sweep"), SWEEPS.items())
def test_cells_equal_the_trials_of_the_shipped_sweep(number, sweep):
    trial_ids = {
        trial.id
        for cell in table_cells(TABLES[number], TABLES[number].sets)
        for trial in cell_trials(cell, TableSettings())
    }
    assert trial_ids == {
        trial.id for trial in list_trials(*read_sweep(find_recipe(sweep, "sweep")))
    }


@needs_plugin("authors_schedule", "natural_images")
@pytest.mark.parametrize(
    "settings",
    [TableSettings(), TableSettings("mstar_lt_metalora")],
    ids=["paper", "small"],
)
def test_cells_that_adapt_out_read_the_projected_output(settings):
    """As metalora, models/peft_vit.py: x = F.linear(x, W_o, b_o); x = x +
    flora["out"](x)."""
    cells = [
        cell
        for number in ("1", "2", "4", "S3", "S7")
        for cell in table_cells(TABLES[number], TABLES[number].sets)
    ]
    peft = [
        trial.recipe.peft.settings
        for cell in cells
        for trial in cell_trials(cell, settings)
    ]
    adapts_out = [x for x in peft if "out" in select_positions(x.get("positions", "q"))]
    assert len(adapts_out) > 12
    assert {x["out_insertion"] for x in adapts_out} == {"sequential"}


def test_method_on_another_base_recipe():
    def build(name, **keys):
        return build_recipe(
            name, TableSettings("mstar_lt_metalora", ("train.epochs=2",)), keys
        )

    lora = build("in21k_dota_lora", seed=3)
    settings = lora.peft.settings
    assert (settings["positions"], settings["rank"], settings["scale"], lora.meta) == (
        "qv",
        8,
        1.0,
        None,
    )
    assert (lora.data.root, lora.train.epochs, lora.seed) == ("data/mstar_lt", 2, 3)
    learned = build("in21k_dota_metalora", **{"meta.ratio": 0.5})
    assert (
        learned.peft.settings["positions"],
        learned.meta.ratio,
        learned.meta.warmup,
    ) == ("qkvo12", 0.5, 2)
    assert build("in21k_dota_lift").peft.settings["scale"] == "learnable"
    assert build("in21k_dota_vpt_deep").peft.settings["prompts"] == 10
    assert build("in21k_dota_bitfit").peft.settings == {"blocks": "every:1"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Folder of runs, which a stub replaces: tail is 50 % plus 10 % per seed; row Q
    fails and row V is stopped."""

    def run(folder, keys, settings):
        recipe = load_recipe(folder / RECIPE)
        if recipe.peft.settings["positions"] == "v":
            raise KeyboardInterrupt
        failed = recipe.peft.settings["positions"] == "q"
        value = 0.5 + recipe.seed / 10
        metrics = (
            {} if failed else {"head": 0.5, "medium": 0.25, "tail": value, "avg": value}
        )
        (folder / "bars/001/evaluation").mkdir(parents=True, exist_ok=True)
        (folder / "bars/001/run.json").write_text("{}")
        summary = {
            name: {"value": x, "low": x - 0.1, "high": x + 0.1}
            for name, x in metrics.items()
        }
        (folder / "bars/001/evaluation/metrics.json").write_text(
            json.dumps({"methods": {"LoRA": summary}})
        )
        outcome = TrialOutcome(
            keys,
            "failed" if failed else "done",
            "no memory" if failed else "",
            metrics,
            data=hash_data(recipe.data),
        )
        outcome.save(folder)
        return outcome

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table_runs, "open_executor", lambda **_: ExecutorHere(run))
    return tmp_path / "results"


@pytest.mark.slow
def test_finished_runs_are_not_repeated_and_are_printed(results, root, rsft):
    options = (
        "--runs",
        results,
        "--on",
        "mstar_lt_metalora",
        "--root",
        root,
        "--seeds",
        2,
        "train.epochs=2",
    )
    code, printed = rsft("reproduce", "table2", *options)
    lines = [
        "1/12  K, DOTA, seed 0  avg 50.0  0 s",
        "3/12  Q, DOTA, seed 0  failed: no memory",
    ]
    assert code == 130 and all(line in printed for line in lines)
    code, printed = rsft("reproduce", "2", *options)
    # finished, and failed in training
    assert "K, DOTA, seed 0  avg" not in printed
    assert "3/12  Q, DOTA, seed 0  failed" in printed

    code, printed = rsft("reproduce", "Table-2", *options, "--report")
    assert code == 0 and f"on {root} at 64 px, 2 epochs of batch 32" in printed
    assert "| K | head | 91.6 | - | 50.0 ± 0.0 |" in printed
    assert "| K | tail | 87.7 | - | 55.0 ± 7.1 |" in printed
    assert "| V | avg | 92.7 | - | - |" in printed
    assert "Failed: Q, DOTA, seed 0: no memory" in printed


def test_names_of_tables_and_figures():
    assert (table_name("2"), table_name("Figure-1d")) == ("Table 2", "Figure 1d")
