"""The table of PEFT methods: equal trained parameters, equal CPU seconds, resumed."""

import json
from pathlib import Path

import pytest

from rsft.peft import attach
from tests.helpers.plugins import needs_plugin
from tools.reproduction import peft_methods
from tools.reproduction.quality_study import read_study

pytestmark = needs_plugin("huggingface")
FREE = {"BitFit", "LayerNorm tuning", "SSF", "head alone", "LoKr"}
"""Rows without a size that reaches the parameters of the others."""


def read(data):
    return read_study(peft_methods.STUDIES / f"peft_methods_{data}.yaml")


@pytest.mark.parametrize("data", peft_methods.DATA)
def test_a_study_has_twenty_methods_and_three_seeds(data):
    study = read(data)
    assert len(study.rows) == 20 and study.seeds == [0, 1, 2]
    assert [row.title for row in study.rows if row.base] == ["LoRA"]
    assert {len(rows) for rows in study.groups.values()} == {10}


@pytest.mark.slow
def test_trained_parameters_are_equal():
    pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    from rsft.backbones import load_backbone

    vit = load_backbone("vit_tiny_patch8_64.simship", 48).vit
    study = read("mstar_lt")
    counts = {}
    for row in study.rows:
        from rsft.recipe.load import load_recipe

        (configuration,) = study.configurations(row, 0)
        recipe = load_recipe(configuration.recipe_path, configuration.overrides)
        adapted = attach(vit, recipe.peft.build())
        counts[row.title] = sum(parameter.numel() for parameter in adapted.theta)
        adapted.detach()
    assert counts["LoRA"] == 64_512
    for title, count in counts.items():
        if title not in FREE:
            assert 0.83 * 64_512 <= count <= 1.08 * 64_512, (title, count)
    assert max(counts[title] for title in FREE) < 33_000


def write_results(study, folder, seconds):
    """Write a result for every row and seed."""
    folder.mkdir(parents=True)
    for seed in study.seeds:
        for row in study.rows:
            (configuration,) = study.configurations(row, seed)
            recipe = json.loads(configuration.identity) | {"seed": seed, "name": "x"}
            result = {
                "name": configuration.name,
                "seed": seed,
                "overrides": list(configuration.overrides),
                "recipe": recipe,
                "version": "0",
                "commit": None,
                "dirty": None,
                "seconds": seconds[row.title],
                "recall": [[0.5, 0.5], [0.5, 0.75], [0.5, 0.6]],
                "groups": {"head": [0], "medium": [], "tail": [1]},
                "scales": None,
                "note": "",
                "split_sha256": "0" * 64,
            }
            name = f"{configuration.name}, seed {seed}.json"
            (folder / name).write_text(json.dumps(result))


def test_epochs_for_equal_seconds(tmp_path):
    study = read_study(peft_methods.STUDIES / "peft_methods_mstar_lt.yaml", seeds="0")
    seconds = {row.title: 40.0 for row in study.rows}
    seconds |= {"BOFT": 160.0, "VPT-Deep": 80.0, "head alone": 4.0}
    write_results(study, tmp_path / "out", seconds)
    path = tmp_path / "seconds.yaml"
    path.write_text(peft_methods.equal_seconds(study, tmp_path / "out"))
    second = read_study(path)
    assert "equal CPU seconds" in second.title and second.seeds == [0]
    epochs = {}
    for row in second.rows:
        (configuration,) = second.configurations(row, 0)
        values = json.loads(configuration.identity)
        epochs[row.title] = values["train"]["epochs"]
        (first,) = study.configurations(
            next(x for x in study.rows if x.title == row.title), 0
        )
        before = json.loads(first.identity)
        before["train"]["epochs"] = epochs[row.title]
        assert values == before
    assert epochs["LoRA"] == epochs["OFT"] == 10
    assert (epochs["BOFT"], epochs["VPT-Deep"], epochs["head alone"]) == (2, 5, 100)


def test_a_row_without_result_is_named(tmp_path):
    study = read("mstar_lt")
    with pytest.raises(SystemExit, match="LoRA, LoTR"):
        peft_methods.equal_seconds(study, tmp_path)


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    study = read_study(peft_methods.STUDIES / "peft_methods_mstar_lt.yaml", seeds="0")
    write_results(study, tmp_path / "out", {row.title: 1.0 for row in study.rows})
    file = next(
        path for path in Path(tmp_path / "out").iterdir() if "VERA" in path.name
    )
    file.unlink()
    jobs = []

    def run(todo, work, processes):
        jobs.extend(todo)
        return 0

    monkeypatch.setattr(peft_methods, "run_parallel", run)
    monkeypatch.setattr(peft_methods, "pack_results", lambda out: 0)
    assert peft_methods.run_missing(study, tmp_path / "out", 1) == 0
    assert len(jobs) == 1 and "VERA" in jobs[0].name


def test_the_page_gets_a_section_for_each_study_with_results(tmp_path):
    (tmp_path / "peft_methods_mstar_lt").mkdir()
    page = peft_methods.add_tables("# Page\n", tmp_path)
    assert page.startswith("# Page\n\n## Twenty PEFT methods on MSTAR")
    assert page.count("<!-- methods ") == 1 and page.endswith("<!-- end -->\n")
    assert peft_methods.add_tables(page, tmp_path) == page
