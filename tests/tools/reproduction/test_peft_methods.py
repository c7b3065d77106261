"""The table of PEFT methods: equal trained parameters, chosen rates, resumed, from run files."""

import json

import pytest

from rsft.peft import attach
from rsft.recipe.load import load_recipe
from tests.helpers.plugins import needs_plugin
from tools.reproduction import peft_methods
from tools.reproduction.quality_results import read_results
from tools.reproduction.quality_study import read_study

pytestmark = needs_plugin("huggingface", "short_epochs")
FREE = {"BitFit", "LayerNorm tuning", "SSF", "head alone", "LoKr"}
"""Rows without a size that reaches the parameters of the others."""


def read(data):
    return read_study(peft_methods.STUDIES / f"peft_methods_{data}.yaml")


def resolved(study, row):
    (configuration,) = study.configurations(row, 0)
    return load_recipe(configuration.recipe_path, configuration.overrides)


@pytest.mark.parametrize("data", peft_methods.DATA)
def test_a_study_has_all_methods_and_three_seeds(data):
    study = read(data)
    assert len(study.rows) == 21 and study.seeds == [0, 1, 2]
    assert [row.title for row in study.rows if row.base] == ["LoRA"]
    assert [len(rows) for rows in study.groups.values()] == [11, 10]
    for row in study.rows:
        recipe = resolved(study, row)
        assert recipe.data.root == f"data/{data}" and recipe.data.size == 32
        assert (recipe.meta is not None) == (row.title == "MetaLoRA")
        assert recipe.train.head_lr is not None and recipe.train.batch_size == 32


def test_the_settings_of_a_method_are_the_same_on_all_data_sets():
    studies = [read(data) for data in peft_methods.DATA]
    for rows in zip(*(study.rows for study in studies), strict=True):
        recipes = [
            resolved(study, row) for study, row in zip(studies, rows, strict=True)
        ]
        assert len({recipe.train.epochs for recipe in recipes}) == 1
        assert len({recipe.train.lr for recipe in recipes}) == 1
        assert len({str(recipe.peft) for recipe in recipes}) == 1


def test_the_rates_are_those_that_the_run_files_choose():
    rates = peft_methods.rate_study()
    chosen = peft_methods.choose_rates(rates, read_results(peft_methods.RESULTS, rates))
    study = read("rsscn7_lt")
    for row in study.rows:
        train = resolved(study, row).train
        rate = train.head_lr if row.title == "head alone" else train.lr
        assert chosen[row.title] == rate, row.title


@pytest.mark.slow
def test_trained_parameters_are_equal():
    pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    from rsft.backbones import load_backbone

    vit = load_backbone("vit_tiny_patch8_64.simship", 48).vit
    study = read("mstar_lt")
    counts = {}
    for row in study.rows:
        adapted = attach(vit, resolved(study, row).peft.build())
        counts[row.title] = sum(parameter.numel() for parameter in adapted.theta)
        adapted.detach()
    assert counts["LoRA"] == counts["MetaLoRA"] == 64_512
    for title, count in counts.items():
        if title not in FREE:
            assert 0.83 * 64_512 <= count <= 1.08 * 64_512, (title, count)
    assert max(counts[title] for title in FREE) < 33_000


def write_results(study, folder, recall):
    """Write a result for every run; `recall` returns that of the tail by row and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in study.seeds:
        for row in study.rows:
            for number, configuration in enumerate(study.configurations(row, seed)):
                recipe = json.loads(configuration.identity)
                tail = recall(row.title, seed, number)
                result = {
                    "name": configuration.name,
                    "seed": seed,
                    "overrides": list(configuration.overrides),
                    "recipe": recipe | {"seed": seed, "name": "x"},
                    "version": "0",
                    "commit": None,
                    "dirty": None,
                    "seconds": 7.0,
                    "trained_parameters": 65_856,
                    "recall": [[0.5, tail], [0.5, tail], [0.5, tail]],
                    "groups": {"head": [0], "medium": [], "tail": [1]},
                    "scales": None,
                    "note": "",
                    "split_sha256": "0" * 64,
                }
                name = f"{configuration.name}, seed {seed}.json"
                (folder / name).write_text(json.dumps(result))


def test_the_rate_with_the_best_validation_accuracy_is_chosen(tmp_path):
    study = peft_methods.rate_study()
    assert study.seeds == [100]
    best = {"LoRA": 0, "DoRA": 1}

    def recall(title, seed, number):
        return 0.9 if number == best.get(title, 2) else 0.1 * number

    write_results(study, tmp_path, recall)
    results = read_results(tmp_path, study)
    chosen = peft_methods.choose_rates(study, results)
    assert (chosen["LoRA"], chosen["DoRA"], chosen["VeRA"]) == (0.006, 0.024, 0.096)
    lines = peft_methods.rate_table(study, results)
    assert lines[0] == "| macro | 0.006 | 0.024 | 0.096 |" and len(lines) == 23
    assert lines[2] == "| LoRA | 70.0 | 30.0 | 35.0 |"


def test_the_summary_compares_pairs_of_all_data_sets(tmp_path):
    studies = peft_methods.read_studies("0-1")
    gains = iter([0.02, 0.04, 0.02, 0.04, 0.02, 0.04])
    for study in studies:
        write_results(
            study,
            tmp_path,
            lambda title, seed, _: 0.2 + (next(gains) if title == "OFT" else 0),
        )
    results = [read_results(tmp_path, study) for study in studies]
    lines = peft_methods.summary_table(studies, results)
    cells = {line.split(" | ")[0]: line.split(" | ") for line in lines}
    assert cells["| LoRA"][1] == "65,856" and cells["| LoRA"][4:6] == ["35.0", "20.0"]
    # macro gains of 1, 2, 1, 2, 1, 2 points
    assert cells["| OFT"][4:7] == ["36.5", "23.0", "1.5 ± 0.6"]
    assert cells["| DoRA"][6:8] == ["0.0 ± 0.0", "1.000"]
    assert cells["| OFT"][8] == "7.0 |" and cells["| VeRA"][3] == "8"


def test_seconds_are_the_median_of_the_epochs_between_first_and_last(monkeypatch):
    times = iter([5.0, 6.0, 8.0, 9.0, 50.0])
    recipe = object()

    def train(given, folder, listener):
        assert given is recipe
        for _ in range(5):
            listener.on_epoch_end({}, {})

    monkeypatch.setattr("rsft.training.finetune.train_single_run", train)
    monkeypatch.setattr(peft_methods.time, "process_time", lambda: next(times))
    assert peft_methods.seconds_per_epoch(recipe) == 1


def test_finished_runs_are_not_repeated_and_seeds_come_in_turn(tmp_path, monkeypatch):
    studies = peft_methods.read_studies("0-1")
    for study in studies:
        write_results(study, tmp_path, lambda *_: 0.5)
    missing = [path for path in tmp_path.iterdir() if "VERA" in path.name]
    for path in missing:
        path.unlink()
    jobs = []

    def run(todo, work, processes):
        jobs.extend(todo)
        return 0

    monkeypatch.setattr(peft_methods, "run_parallel", run)
    monkeypatch.setattr(peft_methods, "pack_results", lambda out: 0)
    assert peft_methods.run_missing(studies, tmp_path, 1) == 0
    assert [job.seed for job in jobs] == [0, 0, 0, 1, 1, 1]
    assert all("VERA" in job.name for job in jobs) and len(missing) == 6


def test_the_page_has_the_tables_of_the_run_files():
    text = peft_methods.PAGE.read_text("utf-8")
    assert peft_methods.fill_page(text) == text
