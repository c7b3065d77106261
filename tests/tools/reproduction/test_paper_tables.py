"""The paper's tables: its numbers are what it prints, its cells are the shipped sweeps, and ours stand beside them."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rsft.errors import RecipeError, RequestError
from rsft.evaluation.evaluate import evaluate
from rsft.recipe.library import find_sweep
from rsft.recipe.load import load_recipe
from rsft.sweep.outcome import RECIPE, Outcome
from rsft.sweep.process import Stopped
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials
from tools.reproduction import paper_runs, paper_tables
from tools.reproduction.paper_cells import Asked, cells_of, read_tables, recipe_of, trials_of
from tools.reproduction.paper_print import markdown, overview
from tools.reproduction.paper_runs import TableRuns, distances

TABLES = read_tables()
SWEEPS = {
    "1": "table_1_modules",
    "2": "table_2_positions",
    "3": "table_3_blocks",
    "6": "table_6_ratio",
    "S1": "table_s1_sampling",
    "S3": "table_s3_positions",
    "S4": "table_s4_attention",
    "S5": "table_s5_ffn",
    "Figure-1c": "depth_position",
    "Figure-1d": "position_scale",
    "Figure-S2": "rank_scale",
}
OWN_MEANS = {"2": 0.3, "3": 0.11, "S3": 0.91, "S6": 0.91}  # what the paper's own averages are off by


@pytest.mark.parametrize("number", TABLES)
def test_the_numbers_fit_the_columns_and_their_means(number):
    table = TABLES[number]
    for row in table.rows:
        paper = table.paper(row)
        means = {("", name): kind for name, kind in table.means.items()}
        means |= {(name, "avg"): name for name in table.sets if len(table.sets) == 1 and (name, "head") in paper}
        for column, kind in means.items():
            parts = [value for (name, of), value in paper.items() if name and of != "avg" and kind in ("all", name, of)]
            if None not in parts:
                assert paper[column] == pytest.approx(statistics.mean(parts), abs=OWN_MEANS.get(number, 0.06))


@pytest.mark.parametrize(("number", "sweep"), SWEEPS.items())
def test_the_cells_are_the_trials_of_the_shipped_sweep(number, sweep):
    ours = {trial.id for cell in cells_of(TABLES[number]) for trial in trials_of(cell, Asked())}
    assert ours == {trial.id for trial in list_trials(*read_sweep(find_sweep(sweep)))}


def test_a_method_moves_to_another_recipe():
    def moved(name, **keys):
        return recipe_of(name, Asked("mstar_lt_metalora", ("train.epochs=2",)), keys)

    lora = moved("in21k_dota_lora", seed=3)
    settings = lora.peft.settings
    assert (settings["positions"], settings["rank"], settings["scale"], lora.meta) == ("qv", 8, 1.0, None)
    assert (lora.data.root, lora.train.epochs, lora.seed) == ("data/mstar_lt", 2, 3)
    learned = moved("in21k_dota_metalora", **{"meta.ratio": 0.5})
    assert (learned.peft.settings["positions"], learned.meta.ratio, learned.meta.warmup) == ("qkvo12", 0.5, 2)
    assert moved("in21k_dota_lift").peft.settings["scale"] == "learnable"
    assert moved("in21k_dota_vpt_deep").peft.settings["prompts"] == 10
    assert moved("in21k_dota_bitfit").peft.settings == {"blocks": "all"}


def test_the_same_experiment_of_two_tables_is_one_trial():
    asked = Asked("mstar_lt_metalora")
    ids = [
        {trial.id for cell in cells_of(TABLES[number].scaled_down()) for trial in trials_of(cell, asked)}
        for number in ("6", "S1", "5")
    ]
    assert (len(ids[0] & ids[1]), len(ids[0] & ids[2]), len(set.union(*ids))) == (2, 1, 15)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Asked("in21k_dota_lora"), RequestError),
        (Asked("no_such_recipe"), RequestError),
        (Asked("mstar_lt_metalora", ("train.epochs=-1",)), RecipeError),
        (Asked("", ("train.epochs=-1",)), RecipeError),
    ],
)
def test_what_cannot_be_is_told(asked, error):
    with pytest.raises(error):
        trials_of(next(cells_of(TABLES["6"])), asked)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs go, that are no runs: tail is ten times the seed above head, the second row fails."""

    def run(folder: Path, keys: dict, report: Callable, **_: object) -> Outcome:
        recipe = load_recipe(folder / RECIPE)
        if recipe.peft.settings["positions"] == "v":
            raise Stopped
        failed = recipe.peft.settings["positions"] == "q"
        value = 0.5 + recipe.seed / 10
        metrics = {} if failed else {"head": 0.5, "medium": 0.25, "tail": value, "avg": value}
        outcome = Outcome(keys, "failed" if failed else "done", "no memory" if failed else "", metrics, data="abc")
        outcome.save(folder)
        return outcome

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper_runs, "run_trial", run)
    return tmp_path / "results"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run the tool: how it ended, and what it printed."""

    def run(*arguments: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["paper_tables", *map(str, arguments)])
        code: object = 0
        try:
            paper_tables.main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return str(code), printed.out + printed.err

    return run


def test_runs_are_made_once_by_seeds_and_stand_beside_the_paper(results, tool):
    asked = ("--results", results, "--on", "mstar_lt_metalora", "--root", "here")
    code, told = tool("2", "--run", *asked, "--seeds", 2, "train.epochs=2")
    assert (code, told.splitlines()) == (
        "130",
        [
            "1 of 12: K, DOTA, seed 0: avg 50.0 (0 s)",
            "2 of 12: Q, DOTA, seed 0: no memory (0 s)",
            "stopped: the same command goes on",
        ],
    )
    code, told = tool("2", "--run", *asked, "--seeds", 2, "train.epochs=2")
    assert "1 of 12" not in told and "2 of 12" not in told  # done, and failed in training

    code, told = tool("2", "--results", results)
    assert code == "0" and "no reproduction of the paper" in told and "here at 64 px, 2 epochs of batch 32" in told
    assert "| K | 50.0 (91.6) | 25.0 (93.0) | 50.0 (87.7) | 50.0 (90.6) | 1 |" in told
    assert "| V | - (94.0) | - (94.5) | - (90.2) | - (92.7) | 0 |" in told
    assert "Failed: Q, DOTA: no memory" in told


def test_the_spread_is_that_of_the_seeds(results, tool):
    _, told = tool("6", "--run", "--results", results, "--on", "mstar_lt_metalora", "--seeds", 3)
    assert "| 10 % | 50.0 ± 0.0 (93.4) | 25.0 ± 0.0 (94.2) | 60.0 ± 10.0 (90.8) | 60.0 ± 10.0 (92.8) | 3 |" in told
    assert "| 20 % | 50.0 ± 0.0 (?) |" in told
    _, told = tool("s1", "--results", results)
    assert "| random, 20 % | - (93.2) |" in told  # nothing was asked of this table
    assert "15" in next(line for line in overview(TABLES, results).splitlines() if "Table 6" in line)


def test_means_over_sets_need_every_set(results, tool):
    tool("S4", "--run", "--results", results)
    runs = TableRuns(TABLES["S4"], Asked(), results)
    text = markdown("S4", runs)
    assert "CIFAR100 head" in text and "no reproduction" not in text
    assert "| QV | 50.0 (91.2) |" in text and "| 50.00 (69.70) | 41.67 (69.57) | 1 |" in text
    shutil.rmtree(results / "trials" / runs.cells[0][1][0].id)
    text = markdown("S4", TableRuns(TABLES["S4"], Asked(), results))
    assert "| QV | - (91.2) |" in text and "| - (69.70) | - (69.57) | 0-1 |" in text


def test_every_cell_has_a_recipe_and_one_without_is_named(tmp_path):
    cells = [cell for table in TABLES.values() for cell in cells_of(table)]
    assert [cell for cell in cells if not trials_of(cell, Asked())] == []
    row = TABLES["5"].rows["BitFit"].model_copy(update={"part": "no_method"})
    table = TABLES["5"].model_copy(update={"rows": {"None": row}})
    assert "No such recipe comes with rsft: in21k_dota_no_method." in markdown("5", TableRuns(table, Asked(), tmp_path))


def test_parameters_are_counted(tool, tmp_path):
    _, told = tool("S2", "--results", tmp_path, "--run")
    assert "| Places-LT | 0.295 (0.470) | 0.280 (0.280) | 0.175 (0.175) | 0.280 (0.280) | 0.175 (0.175) |" in told


def test_no_such_table(tool):
    code, _ = tool("S8")
    assert "there is no table S8" in code and "S6, S7, Figure-1c" in code


def test_distances_of_a_run_are_those_of_its_evaluation(run, root, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    expected = evaluate(folder / "bundle", root, folder / "evaluation", baselines=False).distances["adapted"]
    assert distances(folder) == pytest.approx(expected, abs=1e-6) and expected["tail"] > 0
    (folder / "distances.json").write_text('{"head": 0.5}')
    assert distances(folder) == {"head": 0.5}  # kept
