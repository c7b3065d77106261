"""Studies: statistics by hand, shared and stale runs, incomplete seeds, resuming and
failing runs, the command."""

import json
import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft import __version__
from rsft.data.chips.manifest import read_manifest
from rsft.data.chips.store import ChipStore
from rsft.errors import RecipeError, RsftError
from rsft.recipe.load import load_recipe
from rsft.training.runs.reader import hash_manifest
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin
from tools.reproduction import quality_results as quality
from tools.reproduction import quality_table
from tools.reproduction.quality_files import (
    CHOICE,
    REPORTED,
    WHOLE,
    pack_results,
    parse_result,
)
from tools.reproduction.quality_methods import (
    held_out_chips,
    is_reported,
    predict_from_ship_size,
)
from tools.reproduction.quality_study import parse_seeds, read_study, recipe_identity
from tools.reproduction.quality_table import missing_jobs, run_job

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
def study_file(recipe_file, tmp_path):
    """Study of the rows LoRA, best of the scales 1 and 2, and MetaLoRA, over three
    seeds."""
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(recipe=recipe_file))
    return path


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return path


def write_result(out, job, first, second, seconds=1):
    """Write a result with this recall of the classes head, medium and tail on both
    halves."""
    recipe = load_recipe(
        job.recipe_path, [f"seed={job.seed}", *job.overrides]
    ).model_dump(mode="json")
    values = {
        "name": job.name,
        "seed": job.seed,
        "recipe": recipe,
        "recall": [first, second],
        "seconds": seconds,
    }
    values |= {"method": job.method}
    values |= {
        "groups": {"head": [0], "medium": [1], "tail": [2]},
        "version": "0.1.0",
        "commit": "c0ffee" * 6,
    }
    out.mkdir(exist_ok=True)
    job.result_file(out).write_text(json.dumps(values | {"dirty": False}))


def jobs_of(study):
    """Return all runs of the study by row and seed: "LoRA", "scale 2" or "MetaLoRA"."""
    titles = {"peft.scale=2": "scale 2", "ours": "MetaLoRA", "plain": "LoRA"}
    jobs = missing_jobs(study, quality.Results({}, {}))
    return {
        (next(titles[key] for key in titles if key in job.name), job.seed): job
        for job in jobs
    }


@pytest.fixture
def finished(study_file, tmp_path):
    """The study, and a folder with all its results."""
    study = read_study(study_file)
    out = tmp_path / "out"
    accuracies = {"LoRA": (0.5, 0.50), "scale 2": (0.6, 0.40), "MetaLoRA": (0.1, 0.70)}
    for (row, seed), job in jobs_of(study).items():
        first, second = accuracies[row]
        tail = second + (0.1 * seed if row == "MetaLoRA" else 0)
        write_result(
            out, job, [first] * 3, [1.0, 0.5, tail], 20 if row == "MetaLoRA" else 10
        )
    return study, out


def test_statistics_by_hand():
    one = np.array([1.0])
    three = np.array([1.0, 2.0, 3.0])
    # mean 2, standard deviation 1, t(0.975, 2 degrees of freedom) = 4.30265
    assert quality.half_width(three) == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    # t = 2 / (1 / sqrt(3)) = 3.4641; for 2 degrees of freedom p = 1 - t / sqrt(t ** 2 +
    # 2)
    assert (
        quality.paired_p_value(three)
        == pytest.approx(1 - math.sqrt(12 / 14))
        == quality.paired_p_value(-three)
    )
    assert (
        quality.paired_p_value(np.zeros(3)),
        quality.paired_p_value(np.ones(3)),
    ) == (1.0, 0.0)
    assert math.isnan(quality.half_width(one)) and math.isnan(
        quality.paired_p_value(one)
    )
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1; the last ones are raised to the largest
    # before them
    assert quality.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx(
        [0.06, 0.04, 0.06, 0.06]
    )
    assert quality.holm([math.nan, 0.01, 0.9]) == pytest.approx(
        [math.nan, 0.02, 0.9], nan_ok=True
    )


def test_seeds(study_file):
    assert [parse_seeds(text) for text in ("0-2", "0, 5,1-2", "1,0-2")] == [
        [0, 1, 2],
        [0, 5, 1, 2],
        [1, 0, 2],
    ]
    for text in ("", "2-0", "-1", "0-", "a", "0,,1"):
        with pytest.raises(RecipeError, match=mentions("seeds", "0-19")):
            read_study(study_file, seeds=text)


def test_configurations_with_equal_settings_share_their_runs(study_file):
    study = read_study(study_file)
    scale_1, scale_2 = study.configurations(study.rows[1], 0)
    assert (
        study.configurations(study.rows[0], 0)[0].identity
        == scale_1.identity
        != scale_2.identity
    )
    jobs = missing_jobs(study, quality.Results({}, {}))
    # not 12: scale 1 is the base
    assert [job.seed for job in jobs] == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
    ]
    assert jobs[1].overrides[-2:] == ["meta=null", "peft.scale=2"]
    study = read_study(
        edit(study_file, "peft.scale: [1, 2]", "train.lr: [x0.5, x1]"), ["train.lr=0.4"]
    )
    assert [c.overrides[-1] for c in study.configurations(study.rows[1], 0)] == [
        "train.lr=0.2",
        "train.lr=0.4",
    ]


def test_random_scales_are_those_of_the_recipe_and_depend_on_the_seed(study_file):
    new = "random_scales: {draws: 2, low: 0.5, high: 2, positions: [q, mlp1]}"
    study = read_study(
        edit(
            edit(study_file, "grid: {peft.scale: [1, 2]}", new),
            "[accuracy, spread]",
            "[accuracy]",
        )
    )
    draws = [study.configurations(study.rows[1], seed) for seed in (0, 1)]
    assert (
        len({configuration.identity for draw in draws for configuration in draw}) == 4
    )
    recipe = load_recipe(study.recipe_path(study.rows[0]), draws[0][1].overrides)
    assert recipe_identity(recipe.model_dump(mode="json")) == draws[0][1].identity
    assert list(recipe.peft.settings["scale"]) == [
        "blocks.0.q",
        "blocks.0.mlp1",
        "blocks.1.q",
        "blocks.1.mlp1",
    ]
    assert all(0.5 <= scale <= 2 for scale in recipe.peft.settings["scale"].values())


def study_case(path):
    """Return the case of a study, which is skipped without the plug-ins it names."""
    words = {
        "authors_schedule": "schedule: metalora",
        "opensarship": "recipes/opensarship",
    }
    text = path.read_text("utf-8")
    plugins = [name for name, word in words.items() if word in text]
    return pytest.param(path, id=path.stem, marks=needs_plugin(*plugins))


@pytest.mark.parametrize("path", map(study_case, STUDIES))
def test_shipped_studies(path, monkeypatch):
    monkeypatch.chdir(path.parents[3])
    study = read_study(path)
    if path.stem == "mstar_lt":
        assert [len(study.configurations(row, 0)) for row in study.groups["LoRA"]] == [
            1,
            5,
            5,
            3,
            1,
            1,
            1,
            1,
            5,
        ]
        assert (
            study.seeds == list(range(20))
            and "scale_invariant_steps: true" in study.settings["ours"][0]
        )


def test_best_is_chosen_on_the_first_half_and_reported_on_the_second(finished):
    study, out = finished
    results = quality.read_results(out, study)
    assert (len(results.runs), results.unused) == (9, {})
    best = quality.row_results(study, study.rows[1], results)
    # of scale 2, which is worse on the second half
    assert best["tail"].tolist() == pytest.approx([40.0] * 3)
    assert best["seconds"].tolist() == [20, 20, 20]  # of both scales
    lines = quality.report_markdown(study, results).splitlines()
    assert (
        "| LoRA | 3 of 3 | 100.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 66.7 ± 0.0 |  |  | "
        " |  |  | 10 | 1.00 |" in lines
    )
    # tail 70, 80, 90: differences 20, 30, 40 with half width 43.0265 / sqrt(3); t = 30
    # / (10 / sqrt(3)) = 5.196
    p = (  # the other row has p < 0.001, so Holm leaves this one as it is
        f"{1 - math.sqrt(27 / 29):.3f}"
    )
    row = f"76.7 ± 8.3 | 3 | 30.0 ± 24.8 | {p} | 10.0 ± 8.3 | {p} | 20 | 2.00 |"
    assert (
        f"| MetaLoRA | 3 of 3 | 100.0 ± 0.0 | 50.0 ± 0.0 | 80.0 ± 24.8 | {row}" in lines
    )
    assert (
        "| best scale | 3 of 3 | macro | 66.7 ± 0.0 | 63.3 ± 0.0 | 3.3 ± 0.0 |" in lines
    )
    assert (
        "Runs: 9 of 9." in lines and "- 9 runs: rsft 0.1.0, commit c0ffeec0ff" in lines
    )


def test_stale_files_are_reported_and_not_used(finished, study_file):
    study, out = finished
    (out / "cut, seed 0.json").write_text('{"name": ')
    (out / "copy, seed 0.json").write_text(
        jobs_of(study)["LoRA", 0].result_file(out).read_text()
    )
    changed = read_study(
        edit(study_file, "meta={lr: 0.1}", "meta={lr: 0.2}"), seeds="0-1"
    )
    results = quality.read_results(out, changed)
    reasons = {reason: len(files) for reason, files in results.unused.items()}
    assert (
        sorted(reasons.values()) == [1, 1, 2, 3]
        and reasons["another file has the same run"] == 1
    )
    assert (
        reasons["seed not selected"] == 2
        and reasons["stale: overrides that no row of the study has"] == 3
    )
    assert [job.seed for job in missing_jobs(changed, results)] == [0, 1]


def test_packed_results_give_the_same_report_and_can_be_continued(finished):
    study, out = finished
    before = quality.report_markdown(study, quality.read_results(out, study))
    file = jobs_of(study)["LoRA", 0].result_file(out)
    text = file.read_text()
    assert pack_results(out) == 9 and [path.name for path in out.iterdir()] == [
        "runs.jsonl.gz"
    ]
    assert quality.report_markdown(study, quality.read_results(out, study)) == before
    file.write_text(text)  # the same run again
    packed = (out / "runs.jsonl.gz").read_bytes()
    # no time stamp, sorted
    assert pack_results(out) == 9 and (out / "runs.jsonl.gz").read_bytes() == packed


def test_missing_runs_are_done_and_a_failing_one_does_not_stop_the_others(
    study_file, tmp_path, monkeypatch, capsys
):
    study = read_study(study_file)
    out = tmp_path / "out"
    done = []
    failing = [jobs_of(study)["scale 2", 1].name]

    def fake(folder, job):
        done.append(job)
        if job.name in failing and job.seed == 1:
            raise RsftError("the loss is not finite", "epoch 2", "use a lower rate")
        write_result(folder, job, [0.5] * 3, [0.5] * 3)

    def tool(*arguments):
        done.clear()
        monkeypatch.setattr(
            sys,
            "argv",
            ["quality_table", str(study_file), "--out", str(out), *arguments],
        )
        try:
            quality_table.main()
        except SystemExit as stop:
            return int(stop.code or 0), len(done), "".join(capsys.readouterr())
        return 0, len(done), "".join(capsys.readouterr())

    monkeypatch.setattr(
        quality_table, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1)
    )
    monkeypatch.setattr(quality_table, "run_job", fake)
    code, count, printed = tool("--seeds", "0-1")
    assert (code, count) == (
        1,
        6,
    ) and f"5 of 6: {failing[0]}, seed 1: failed: the loss is not finite" in printed
    assert "| best scale | 1 of 2 |" in printed
    assert tool("--report", "--seeds", "0-1")[:2] == (0, 0)
    failing.clear()
    code, count, printed = tool("--seeds", "0-1")  # resumes
    assert (code, count) == (0, 1) and "Runs: 6 of 6." in printed
    assert tool("--seeds", "0", "train.epochs=3")[:2] == (0, 3)


@pytest.mark.slow
def test_a_real_run(study_file, root, tmp_path):
    overrides = [f"data.root={root}", "train.epochs=1"]
    study = read_study(study_file, overrides)
    out = tmp_path / "out"
    job = jobs_of(study)["MetaLoRA", 0]
    run_job(out, job)
    values = json.loads(job.result_file(out).read_text())
    assert (values["seed"], values["overrides"][-3:]) == (
        0,
        [*overrides[1:], *job.overrides[-2:]],
    )
    assert np.shape(values["recall"]) == (3, 3) and np.all(
        np.mod(np.multiply(values["recall"], 3), 1) < 1e-9
    )
    assert (
        values["seconds"] > 0 and values["scales"] and values["version"] == __version__
    )
    results = quality.read_results(out, study)
    assert (len(results.runs), results.unused, len(missing_jobs(study, results))) == (
        1,
        {},
        8,
    )


METHODS_STUDY = """
title: Ships
recipe: {recipe}
overrides: [data.root={root}, train.epochs=1]
seeds: [0]
groups:
  methods:
    - {{title: LoRA, base: true}}
    - {{title: k-NN, method: knn}}
    - {{title: probe, method: linear-probe}}
    - {{title: Hugging Face PEFT, method: hugging-face}}
    - {{title: size, method: ship-size}}
    - {{title: choice, method: auto}}
"""


@pytest.mark.exhaustive
def test_every_method_predicts_all_held_out_chips(
    recipe_file, root, tmp_path, monkeypatch
):
    root = Path(
        shutil.copytree(
            root, tmp_path / "ships", ignore=shutil.ignore_patterns(".cache")
        )
    )
    table = pd.read_parquet(root / "manifest.parquet")
    lengths = table["class"].map({"flat": 90.0, "steep": 200.0, "slanted": np.nan})
    table.assign(ais_length_m=lengths, ais_beam_m=30.0).to_parquet(
        root / "manifest.parquet"
    )
    path = tmp_path / "methods.yaml"
    out = tmp_path / "out"
    path.write_text(METHODS_STUDY.format(recipe=recipe_file, root=root))
    study = read_study(path)
    auto = tmp_path / "auto.yaml"
    candidate = edit(recipe_file, "epochs: 3", "epochs: 1")
    auto.write_text(f"method: auto\ndata: {{}}\nfolds: 2\ncandidates: [{candidate}]\n")
    monkeypatch.setattr(
        "tools.reproduction.quality_methods.find_recipe", lambda name: auto
    )
    for job in missing_jobs(study, quality.Results({}, {})):
        run_job(out, job)
    results = quality.read_results(out, study)
    assert (len(results.runs), results.unused, len(missing_jobs(study, results))) == (
        6,
        {},
        0,
    )
    assert not list((out / "runs").iterdir())
    store = ChipStore.open(root)
    counts = store.split("val")["class"].value_counts()
    for path in out.glob("*.json"):
        values = json.loads(path.read_text())
        halves = values["recall"][:2]
        whole = values["recall"][2]
        sizes = [(count + 1) // 2 for count in (counts[name] for name in store.classes)]
        for index, name in enumerate(store.classes):
            correct = halves[0][index] * sizes[index] + halves[1][index] * (
                counts[name] - sizes[index]
            )
            assert correct == pytest.approx(whole[index] * counts[name])
        assert values["split_sha256"] == hash_manifest(root) and values["seconds"] > 0
        assert ("chosen" in values["note"]) == (values["method"] == "auto")
    split = pd.read_csv(out / f"split_{root.name}.csv")
    assert len(split) == len(store.table) and set(split["sha256"].str.len()) == {16}


def test_the_test_split_is_reported_or_else_every_second_chip_of_a_class(
    root, tmp_path
):
    store = ChipStore.open(root)
    chips = held_out_chips(store)
    halves = pd.crosstab(chips["class"], is_reported(chips))
    assert len(chips) == 18 and (halves[False] - halves[True]).isin([0, 1]).all()
    copy = shutil.copytree(
        root, tmp_path / "store", ignore=shutil.ignore_patterns(".cache")
    )
    manifest = read_manifest(root)
    is_second = (manifest["split"] == "val") & (
        manifest.groupby(["split", "class"]).cumcount() % 2 == 1
    )
    manifest.assign(split=manifest["split"].mask(is_second, "test")).to_parquet(
        copy / "manifest.parquet"
    )
    with_test = held_out_chips(ChipStore.open(copy))
    named = [set(table["name"][is_reported(table)]) for table in (chips, with_test)]
    assert named[0] == named[1] == set(with_test["name"][with_test["split"] == "test"])


def test_the_parts_of_a_result_have_their_own_tables(finished, capsys, monkeypatch):
    study, out = finished
    results = quality.read_results(out, study)
    table = quality.row_results(study, study.rows[0], results, CHOICE)
    assert table["macro"].tolist() == pytest.approx([50.0] * 3)
    assert quality.row_results(study, study.rows[0], results, REPORTED)["macro"][
        0
    ] == pytest.approx(200 / 3)
    assert "chips on which settings are chosen" in quality.report_markdown(
        study, results, "choice"
    )
    assert set(quality.read_results(out, study, WHOLE).unused) == {
        "stale: no recall on the whole split"
    }


def test_baselines_beside_a_run_do_not_make_it_another_run(finished):
    _, out = finished
    values = json.loads(next(out.glob("*.json")).read_text())
    other = values | {
        "recipe": (
            values["recipe"]
            | {"evaluate": values["recipe"]["evaluate"] | {"baselines": 30.0}}
        )
    }
    assert (
        parse_result(json.dumps(values)).identity
        == parse_result(json.dumps(other)).identity
    )


def test_the_size_of_ships_predicts_their_class(root, recipe_file, tmp_path):
    copy = shutil.copytree(
        root, tmp_path / "store", ignore=shutil.ignore_patterns(".cache")
    )
    table = read_manifest(root)
    lengths = table["class"].map({"flat": 50.0, "steep": 120.0, "slanted": 200.0})
    # the median of the training chips
    lengths[table.index[table["split"] == "val"][0]] = np.nan
    table.assign(ais_length_m=lengths, ais_beam_m=30.0).to_parquet(
        copy / "manifest.parquet"
    )
    recipe = load_recipe(recipe_file, [f"data.root={copy}"])
    result = predict_from_ship_size(recipe, tmp_path)
    assert (result.predicted == result.labels).sum() >= len(result.labels) - 1
    assert np.shape(result.recall()) == (3, 3) and result.split_sha256 == hash_manifest(
        copy
    )
