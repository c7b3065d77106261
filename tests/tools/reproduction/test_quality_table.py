"""Studies: statistics by hand, shared and stale runs, incomplete seeds, resuming and failing runs, the command."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rsft.errors import RecipeError, RequestError, RsftError
from rsft.recipe.load import load_recipe
from tests.helpers.messages import mentions
from tools.reproduction import quality_table
from tools.reproduction.quality_files import pack_results
from tools.reproduction.quality_results import (
    Results,
    half_width,
    holm,
    paired_p_value,
    read_results,
    report_markdown,
    row_results,
)
from tools.reproduction.quality_study import Study, parse_seeds, random_scales, read_study, recipe_identity
from tools.reproduction.quality_table import Job, missing_jobs, run_job

STUDIES = sorted((Path(quality_table.__file__).parent / "studies").glob("*.yaml"))

STUDY = """
title: Ships
recipe: {recipe}
overrides: [data.root=data/ships, train.epochs=2]
seeds: [0, 1, 2]
blocks: 2
settings:
  lora: ["peft={{method: lora, rank: 4}}"]
  plain: [meta=null]
  ours: ["meta={{lr: 0.1}}"]
groups:
  LoRA:
    - {{title: LoRA, overrides: [lora, plain], base: true}}
    - title: best scale
      overrides: [lora, plain]
      grid: {{peft.scale: [1, 2]}}
      tables: [accuracy, spread]
    - {{title: MetaLoRA, overrides: [lora, ours]}}
"""


@pytest.fixture
def study_file(recipe_file: Path, tmp_path: Path) -> Path:
    """Study of the rows LoRA, best of the scales 1 and 2, and MetaLoRA, over three seeds."""
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(recipe=recipe_file))
    return path


def edit(path: Path, old: str, new: str) -> Path:
    """Replace text of a file that occurs in it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def write_result(
    study: Study, out: Path, job: Job, first: Sequence[float | None], second: Sequence[float | None], seconds: float = 1
) -> Path:
    """Write a result with this recall of the classes head, medium and tail on both halves."""
    recipe = load_recipe(study.recipe_path, [f"seed={job.seed}", *job.overrides])
    groups = {"head": [0], "medium": [1], "tail": [2]}
    values = {"name": job.name, "seed": job.seed, "recipe": recipe.model_dump(mode="json"), "recall": [first, second]}
    values |= {"seconds": seconds, "groups": groups, "version": "0.1.0", "commit": "c0ffee" * 6, "dirty": False}
    out.mkdir(exist_ok=True)
    path = job.result_file(out)
    path.write_text(json.dumps(values))
    return path


def jobs_of(study: Study) -> dict[tuple[str, int], Job]:
    """Return all runs of the study by row and seed: "LoRA", "scale 2" or "MetaLoRA"."""
    titles = {"peft.scale=2": "scale 2", "ours": "MetaLoRA", "plain": "LoRA"}
    jobs = missing_jobs(study, Results({}, {}))
    return {(next(titles[key] for key in titles if key in job.name), job.seed): job for job in jobs}


@pytest.fixture
def finished(study_file: Path, tmp_path: Path) -> tuple[Study, Path]:
    """The study, and a folder with all its results."""
    study, out = read_study(study_file), tmp_path / "out"
    accuracies = {"LoRA": (0.5, 0.50), "scale 2": (0.6, 0.40), "MetaLoRA": (0.1, 0.70)}
    for (row, seed), job in jobs_of(study).items():
        first, second = accuracies[row]
        tail = second + (0.1 * seed if row == "MetaLoRA" else 0)
        write_result(study, out, job, [first] * 3, [1.0, 0.5, tail], 20 if row == "MetaLoRA" else 10)
    return study, out


# statistics


def test_interval_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2 degrees of freedom) = 4.30265
    assert half_width(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert math.isnan(half_width(np.array([1.0])))


def test_paired_p_value_by_hand():
    # t = 2 / (1 / sqrt(3)) = 3.4641; for 2 degrees of freedom p = 1 - t / sqrt(t ** 2 + 2)
    assert paired_p_value(np.array([1.0, 2.0, 3.0])) == pytest.approx(1 - math.sqrt(12 / 14))
    assert paired_p_value(np.array([-1.0, -2.0, -3.0])) == pytest.approx(1 - math.sqrt(12 / 14))
    assert (paired_p_value(np.zeros(3)), paired_p_value(np.ones(3))) == (1.0, 0.0)
    assert math.isnan(paired_p_value(np.array([1.0])))


def test_holm_by_hand():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1; the last ones are raised to the largest before them
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    corrected = holm([math.nan, 0.01, 0.02])
    assert math.isnan(corrected[0]) and corrected[1:] == pytest.approx([0.02, 0.02])


# study files


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-2", [0, 1, 2]), ("3", [3]), ("0, 5,1-2", [0, 5, 1, 2]), ("1,0-2", [1, 0, 2])]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "2-0", "-1", "0-", "a", "0,,1"])
def test_bad_seeds(text, study_file):
    with pytest.raises(RecipeError, match=mentions("seeds", "0-19")):
        read_study(study_file, seeds=text)


def test_configurations_with_equal_settings_share_their_runs(study_file):
    study = read_study(study_file)
    base, grid, meta = study.rows
    scale_1, scale_2 = study.configurations(grid, 0)
    assert study.configurations(base, 0)[0].identity == scale_1.identity != scale_2.identity
    assert len(study.configurations(meta, 0)) == 1
    jobs = missing_jobs(study, Results({}, {}))
    assert [job.seed for job in jobs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]  # not 12: scale 1 is the base
    assert len({job.result_file(Path()) for job in jobs}) == 9
    assert jobs[1].overrides[-2:] == ["meta=null", "peft.scale=2"]


def test_factors_multiply_the_value_of_the_recipe(study_file):
    edit(study_file, "peft.scale: [1, 2]", "train.lr: [x0.5, x1, x2]")
    study = read_study(study_file, ["train.lr=0.4"])
    configurations = study.configurations(study.rows[1], 0)
    assert [c.overrides[-1] for c in configurations] == ["train.lr=0.2", "train.lr=0.4", "train.lr=0.8"]
    assert configurations[1].identity == study.configurations(study.rows[0], 0)[0].identity


def test_random_scales_are_those_of_the_recipe_and_depend_on_the_seed(study_file):
    new = "random_scales: {draws: 2, low: 0.5, high: 2, positions: [q, mlp1]}"
    study = read_study(edit(edit(study_file, "grid: {peft.scale: [1, 2]}", new), "[accuracy, spread]", "[accuracy]"))
    draws = [study.configurations(study.rows[1], seed) for seed in (0, 1)]
    assert len({configuration.identity for draw in draws for configuration in draw}) == 4
    recipe = load_recipe(study.recipe_path, draws[0][1].overrides)
    assert recipe_identity(recipe.model_dump(mode="json")) == draws[0][1].identity
    assert list(recipe.peft.settings["scale"]) == ["blocks.0.q", "blocks.0.mlp1", "blocks.1.q", "blocks.1.mlp1"]
    assert random_scales(["a", "b"], (0.5, 2), 0, 1) == random_scales(["a", "b"], (0.5, 2), 0, 1)
    assert all(0.5 <= scale <= 2 for scale in random_scales([*map(str, range(99))], (0.5, 2), 3, 0).values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[lora, ours]", "[lora, our]", "no settings 'our'"),
        ("meta={lr: 0.1}", "meta={rate: 0.1}", "meta.rate"),
        (", base: true", "", "no row is the base"),
        ("title: MetaLoRA,", "title: MetaLoRA, base: true,", "at most one row is the base"),
        ("title: best scale", "title: LoRA", "several rows have the title LoRA"),
        ("      grid: {peft.scale: [1, 2]}\n", "", "a spread needs a grid"),
        ("blocks: 2", "depth: 2", "Extra inputs"),
        ("title: Ships\n", "", "title: found nothing"),
        ("grid: {peft.scale: [1, 2]}", "random_scales: {draws: 1, low: 1, high: 2, positions: [q]}", "a spread needs"),
        (
            "grid: {peft.scale: [1, 2]}",
            "grid: {peft.scale: [1, 2]}\n      without: [[3]]",
            "the grid has no combination",
        ),
        ("grid: {peft.scale: [1, 2]}", "grid: {peft.scale: [1]}\n      without: [[1]]", "leaves nothing of the grid"),
    ],
)
def test_faults_of_a_study(study_file, old, new, message):
    with pytest.raises((RecipeError, RequestError), match=message):
        read_study(edit(study_file, old, new))


def test_include_replaces_keys_and_merges_settings(study_file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text('include: study.yaml\ntitle: Other\nseeds: 4-5\nsettings: {ours: ["meta={lr: 0.2}"]}\n')
    study, included = read_study(other), read_study(study_file)
    assert (study.title, study.seeds, study.recipe) == ("Other", [4, 5], included.recipe)
    assert study.settings == {**included.settings, "ours": ["meta={lr: 0.2}"]}
    assert study.groups == included.groups
    other.write_text("include: other.yaml\n")
    with pytest.raises(RequestError, match="includes itself"):
        read_study(other)
    other.write_text("include: nothing.yaml\n")
    with pytest.raises(RequestError, match="no such study"):
        read_study(other)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies(path, monkeypatch):
    monkeypatch.chdir(path.parents[3])
    study = read_study(path)
    assert len(missing_jobs(study, Results({}, {}))) % len(study.seeds) == 0
    if path.stem == "mstar_lt":
        assert [len(study.configurations(row, 0)) for row in study.groups["LoRA"]] == [1, 5, 5, 3, 1, 1, 1, 1, 5]
        assert study.seeds == list(range(20))
        assert "scale_invariant_steps: true" in study.settings["ours"][0]


# results


def test_best_is_chosen_on_the_first_half_and_reported_on_the_second(finished):
    study, out = finished
    results = read_results(out, study)
    assert (len(results.runs), results.unused) == (9, {})
    best = row_results(study, study.rows[1], results)
    assert best["tail"].tolist() == pytest.approx([40.0] * 3)  # of scale 2, which is worse on the second half
    assert best["macro"].tolist() == pytest.approx([190 / 3] * 3)
    assert best["seconds"].tolist() == [20, 20, 20]  # of both scales
    assert row_results(study, study.rows[0], results)["tail"].tolist() == pytest.approx([50.0] * 3)


def test_report(finished):
    study, out = finished
    lines = report_markdown(study, read_results(out, study)).splitlines()
    assert "| LoRA | 3 of 3 | 100.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 66.7 ± 0.0 |  |  |  |  |  | 10 | 1.00 |" in lines
    row = next(line for line in lines if line.startswith("| MetaLoRA"))
    # tail 70, 80, 90: differences 20, 30, 40 with half width 43.0265 / sqrt(3); t = 30 / (10 / sqrt(3)) = 5.196
    p = 1 - math.sqrt(27 / 29)
    assert row == (
        f"| MetaLoRA | 3 of 3 | 100.0 ± 0.0 | 50.0 ± 0.0 | 80.0 ± 24.8 | 76.7 ± 8.3 | 3 | 30.0 ± 24.8 | {p:.3f} | "
        f"10.0 ± 8.3 | {p:.3f} | 20 | 2.00 |"
    )  # the other row has p < 0.001, so Holm leaves this one as it is
    assert "| best scale | 3 of 3 | macro | 66.7 ± 0.0 | 63.3 ± 0.0 | 3.3 ± 0.0 |" in lines
    assert "| best scale | 3 of 3 | tail | 50.0 ± 0.0 | 40.0 ± 0.0 | 10.0 ± 0.0 |" in lines
    assert "Runs: 9 of 9." in lines and "- 9 runs: rsft 0.1.0, commit c0ffeec0ff" in lines


def test_stale_files_are_reported_and_not_used(finished, study_file):
    study, out = finished
    (out / "old, seed 0.json").write_text('{"name": "old", "seed": 0, "recall": [[1], [1]]}')
    (out / "cut, seed 0.json").write_text('{"name": ')
    (out / "list, seed 0.json").write_text("[]")
    job = jobs_of(study)["LoRA", 0]
    (out / "copy, seed 0.json").write_text(job.result_file(out).read_text())
    changed = read_study(edit(study_file, "meta={lr: 0.1}", "meta={lr: 0.2}"), seeds="0-1")
    results = read_results(out, changed)
    reasons = {reason: len(files) for reason, files in results.unused.items()}
    assert reasons.pop("stale: overrides that no row of the study has") == 3
    assert reasons.pop("seed not selected") == 2
    assert reasons.pop("another file has the same run") == 1
    assert reasons.pop("stale: no key 'commit'") == 1
    assert list(reasons.values()) == [1, 1] and all(reason.startswith("stale: ") for reason in reasons)
    assert [job.seed for job in missing_jobs(changed, results)] == [0, 1]
    assert "- 3 result files not used: stale: overrides that no row of the study has" in report_markdown(
        changed, results
    )


def test_packed_results_give_the_same_report_and_can_be_continued(finished):
    study, out = finished
    before = report_markdown(study, read_results(out, study))
    job = jobs_of(study)["LoRA", 0]
    text = job.result_file(out).read_text()
    assert pack_results(out) == 9
    assert [path.name for path in out.iterdir()] == ["runs.jsonl.gz"]
    assert report_markdown(study, read_results(out, study)) == before
    job.result_file(out).write_text(text)  # the same run again
    assert read_results(out, study).unused == {"another file has the same run": [job.result_file(out).name]}
    packed = (out / "runs.jsonl.gz").read_bytes()
    assert pack_results(out) == 9
    assert (out / "runs.jsonl.gz").read_bytes() == packed  # no time stamp, sorted


# runs


class InThread(ThreadPoolExecutor):
    """A pool of one thread in the place of processes."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__(1)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; return its exit status, stdout and stderr."""
    monkeypatch.setattr(quality_table, "ProcessPoolExecutor", InThread)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quality_table", *map(str, arguments)])
        code = 0
        try:
            quality_table.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


def test_missing_runs_are_done_and_a_failing_one_does_not_stop_the_others(study_file, tmp_path, tool, monkeypatch):
    study, out = read_study(study_file), tmp_path / "out"
    failing = jobs_of(study)["scale 2", 1].name
    done = []

    def fake(recipe_path: Path, folder: Path, job: Job, overrides: Sequence[str]) -> None:
        done.append(job)
        if job.name == failing and job.seed == 1:
            raise RsftError("the loss is not finite", "epoch 2", "use a lower rate")
        write_result(study, folder, job, [0.5] * 3, [0.5] * 3)

    monkeypatch.setattr(quality_table, "run_job", fake)
    code, printed, messages = tool(study_file, "--out", out, "--seeds", "0-1")
    assert (code, len(done)) == (1, 6)
    assert f"5 of 6: {failing}, seed 1: failed: the loss is not finite | epoch 2 | use a lower rate" in messages
    assert "1 runs failed" in messages and "| best scale | 1 of 2 |" in printed

    done.clear()
    code, printed, messages = tool(study_file, "--report", "--out", out, "--seeds", "0-1")
    assert (code, done, messages) == (0, [], "") and "Runs: 5 of 6." in printed

    failing = ""
    code, printed, messages = tool(study_file, "--out", out, "--seeds", "0-1")  # resumes
    assert (code, [job.seed for job in done]) == (0, [1]) and "Runs: 6 of 6." in printed

    done.clear()
    code, printed, messages = tool(study_file, "--out", out, "--seeds", "0", "train.epochs=3")
    assert (code, len(done)) == (0, 3)
    assert "not used, stale: overrides that no row of the study has: " in messages


@pytest.mark.slow
def test_a_real_run(study_file, root, tmp_path):
    overrides = [f"data.root={root}", "train.epochs=1"]
    study, out = read_study(study_file, overrides), tmp_path / "out"
    job = jobs_of(study)["MetaLoRA", 0]
    run_job(study.recipe_path, out, job, [])
    values = json.loads(job.result_file(out).read_text())
    assert values.keys() == {
        "name", "seed", "overrides", "recipe", "version", "commit", "dirty", "seconds", "recall", "groups", "scales",
    }  # fmt: skip
    assert (values["seed"], values["overrides"][-3:]) == (0, [*overrides[1:], *job.overrides[-2:]])
    assert np.shape(values["recall"]) == (2, 3) and np.all(np.mod(np.multiply(values["recall"], 3), 1) < 1e-9)
    assert values["seconds"] > 0 and values["scales"] and values["version"] == "0.1.0"
    assert list((out / "runs").iterdir()) == []
    results = read_results(out, study)
    assert (len(results.runs), results.unused, len(missing_jobs(study, results))) == (1, {}, 8)
