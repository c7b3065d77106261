"""Later code opens what earlier versions wrote: tests/compat/<version>/, made by tools/maintenance/make_compat.py.

The tests go through the command line and the names of files, so that a name in the code may change. A name that users
see may change too: the tables below say what an old one is called now.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

RENAMED_KEYS: dict[str, str] = {
    "meta.init": "meta.init_scale",
    "meta.every": "meta.outer_every",
    "meta.round": "meta.resplit_every",
    "head.scale": "head.logit_scale",
    "loss.defer": "loss.drw_start",
    "train.accumulate": "train.accumulate_grad_batches",
    "train.clip_norm": "train.max_grad_norm",
    "train.runs": "train.ensemble_size",
}
"""Keys of recipes: {"train.runs": "train.members"}. A section that moves needs a row for each of its keys."""

RENAMED_VALUES: dict[tuple[str, str], object] = {("train.precision", "32"): "fp32"}
"""Values of recipes, by old key and old value as text: {("train.precision", "32"): "fp32"}."""

RENAMED_COLUMNS: dict[str, str] = {}
"""Columns of metrics.csv, modulator.csv and tables of predictions."""

RENAMED_TENSORS: dict[str, str] = {}
"""Tensors of a bundle."""

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # another processor rounds otherwise; a state that is lost moves far more
TIMES = {"seconds", "images_per_s", "data_s", "inner_s", "outer_s", "memory_mb", "gpu_mb"}
VERSIONS = sorted(path for path in (Path(__file__).parent / "compat").iterdir() if path.is_dir())
RUNS = ("run", "run_average")


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old(request, rsft, tmp_path, monkeypatch):
    """A copy of a version's folder, which is the working directory."""
    folder = shutil.copytree(request.param, tmp_path / request.param.name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def done(old, rsft):
    """Run the command line in that folder; it must end well."""

    def run(*arguments):
        code, printed = rsft(*arguments)
        assert code == 0, printed
        return printed

    return run


def same_tables(found, wanted):
    """Every column of the old table is in the new one, with the same values but for rounding."""
    assert len(found) == len(wanted)
    for column in wanted.columns.difference(TIMES):
        one, other = found[RENAMED_COLUMNS.get(column, column)], wanted[column]
        if pd.api.types.is_float_dtype(other):
            np.testing.assert_allclose(one.to_numpy(float), other.to_numpy(float), err_msg=column, **CLOSE)
        elif column != "bundle_sha256":
            assert list(map(str, one)) == list(map(str, other)), column


def same_tensors(found, wanted):
    wanted = {RENAMED_TENSORS.get(name, name): tensor for name, tensor in wanted.items()}
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, err_msg=name, **CLOSE)


@pytest.mark.parametrize("run", RUNS)
def test_a_bundle_classifies_as_before(old, done, run):
    done("predict", run, "store/chips/test", "-o", "now.csv", "--engine", "torch")
    same_tables(pd.read_csv("now.csv"), pd.read_csv(f"{run}_predictions.csv"))


def test_bundle_commands(old, done):
    for run in RUNS:
        index = json.loads((old / run / "bundle/bundle.json").read_text())
        assert "fault" not in done("bundle", "verify", run, "--sha256", index["sha256"])
        assert all(name in done("bundle", "show", run) for name in index["classes"])
    assert json.loads(done("bundle", "show", "run", "--json"))["sha256"]
    assert "peft.rank" in done("bundle", "diff", *RUNS)


def test_runs_commands(old, done):
    listed = done("runs", "ls", ".")
    assert "broken" not in listed and listed.count("done") == 2 and listed.count("interrupted") == 1
    assert "4/4" in listed and "2/6" in listed  # epochs
    for run in (*RUNS, "run_stopped"):
        assert "broken" not in done("runs", "show", run)
    assert "peft.rank" in done("runs", "compare", *RUNS, "run_stopped")
    done("runs", "rm", "run_average", "--yes")
    assert not (old / "run_average").exists()


def test_reports(old, done):
    for run in RUNS:
        done("report", f"./{run}")  # a folder called run is taken for the command
        assert (old / run / "report.html").stat().st_size > 50_000
    done("report", "compare", *RUNS)
    assert (old / "comparison.html").stat().st_size > 10_000


@pytest.mark.parametrize("run", RUNS)
def test_an_evaluation_is_as_before(old, done, run):
    done("evaluate", run, "store", "--out", "now", "--compare", "run")
    found, wanted = (pd.read_parquet(Path(place) / "predictions.parquet") for place in ("now", f"{run}/evaluation"))
    same_tables(found, wanted)


def test_a_stopped_run_goes_on_as_if_unbroken(old, done):
    done("finetune", "--resume", "run_stopped", "--no-report")
    assert json.loads((old / "run_stopped/run.json").read_text())["status"] == "done"
    wanted = old / "run_stopped_expected"
    for name in ("metrics.csv", "modulator.csv"):
        same_tables(pd.read_csv(old / "run_stopped" / name), pd.read_csv(wanted / name))
    same_tensors(load_file(old / "run_stopped/bundle/weights.safetensors"), load_file(wanted / "weights.safetensors"))


def test_a_run_is_repeated_from_its_recipe(old, done):
    done("finetune", "run/recipe.yaml", "train.epochs=1", "--no-report", "--runs", "now")
    (folder,) = (old / "now").glob("*/001")
    found, wanted = (json.loads((place / "bundle/bundle.json").read_text()) for place in (folder, old / "run"))
    assert found["classes"] == wanted["classes"] and found["backbone"] == wanted["backbone"]


def test_a_store_opens(old, done):
    facts = json.loads((old / "store/dataset.json").read_text())
    name = pd.read_parquet(old / "store/manifest.parquet")["name"].iloc[0]
    assert all(each in done("data", "show", "store") for each in facts["classes"])
    assert name in done("data", "show", "store", name)
    assert "48-48 px" in done("data", "stats", "store")
    done("audit", "store")
    done("data", "contact-sheet", "store", "-o", "sheet.png")


def test_a_sweep_that_is_done_is_not_run_again(old, done):
    pytest.importorskip("ray")
    trials = sorted((old / "sweep/sweeps/finished/trials").glob("*/trial.json"))
    before = {path: path.stat().st_mtime_ns for path in trials}
    table = pd.read_parquet(old / "sweep/sweeps/finished/results.parquet")
    printed = done("sweep", "sweep/finished.yaml", "--runs", "sweep")
    assert "best  peft.positions" in printed and "left" not in printed
    assert {path: path.stat().st_mtime_ns for path in trials} == before and len(before) == 2
    found = pd.read_parquet(old / "sweep/sweeps/finished/results.parquet")
    assert list(found["id"]) == list(table["id"]) == [path.parent.name for path in by_table(trials, table)]
    same_tables(found, table)


def by_table(trials, table):
    return sorted(trials, key=lambda path: list(table["id"]).index(path.parent.name))


def test_a_sweep_that_was_stopped_goes_on(old, done):
    assert "1 of 2 trials remain" in done("sweep", "sweep/unfinished.yaml", "--runs", "sweep", "--report")
    runs = [path.parent for path in (old / "sweep/sweeps/unfinished/trials").glob("*/*/*/run.json")]
    (stopped,) = [run for run in runs if json.loads((run / "run.json").read_text())["status"] == "interrupted"]
    done("finetune", "--resume", stopped, "--no-report")
    assert len(pd.read_csv(stopped / "metrics.csv")) == 3


@pytest.mark.slow
def test_a_sweep_that_was_stopped_is_run_to_its_end(old):
    pytest.importorskip("ray")
    folder = old / "sweep/sweeps/unfinished"
    before = {path: path.read_bytes() for path in folder.glob("trials/*/trial.json")}
    command = [sys.executable, "-m", "rsft", "sweep", "sweep/unfinished.yaml", "--runs", "sweep", "--jobs", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes = {path: json.loads(path.read_text()) for path in folder.glob("trials/*/trial.json")}
    assert [outcome["status"] for outcome in outcomes.values()] == ["done", "done"]
    assert len(before) == 1 and all(path.read_bytes() == content for path, content in before.items())
    assert len(list(folder.glob("trials/*/*/*/run.json"))) == 2  # the stopped run went on; none was begun


def test_a_sweep_with_every_key(old, done):
    assert "trials remain" in done("sweep", "sweep/every_key.yaml", "--runs", "sweep", "--report")


def test_recipes_mean_what_they_meant(old, rsft, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    overrides = yaml.safe_load((old / "recipes/overrides.yaml").read_text())
    for name, wanted in json.loads((old / "recipes/values.json").read_text()).items():
        file, *wishes = overrides.get(name, [name])
        code, printed = rsft("recipes", "validate", f"recipes/{file}", *wishes)
        assert code == 0, printed
        found = flat(yaml.safe_load(printed))
        for key, value in wanted.items():
            now = RENAMED_KEYS.get(key, key)
            assert found[now] == RENAMED_VALUES.get((key, str(value)), value), f"{name}: {key}, now {now}"


def flat(document):
    """Values by dotted key; a section that is off has the value None."""
    rows = {}
    for name, value in document.items():
        rows |= {f"{name}.{key}": own for key, own in value.items()} if isinstance(value, dict) else {name: value}
    return rows


def network(state):
    """The small network of the adapters."""
    from timm.models.vision_transformer import VisionTransformer

    made = VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=0)
    made.load_state_dict(state)
    return made


def test_adapters_load(old, tmp_path):
    import torch

    from rsft import peft

    tokens, state = load_file(old / "adapters/tokens.safetensors"), load_file(old / "adapters/network.safetensors")
    image = state.pop("image")
    for name, wanted in tokens.items():
        path = old / "adapters" / f"{name}.safetensors"
        adapted = peft.load(network(state), path)
        with torch.no_grad():
            np.testing.assert_allclose(adapted.forward_features(image), wanted, err_msg=name, **CLOSE)
        adapted.save(tmp_path / "again.safetensors")
        same_tensors(load_file(tmp_path / "again.safetensors"), load_file(path))
    adapted = peft.import_peft(network(state), old / "adapters/peft")
    with torch.no_grad():
        np.testing.assert_allclose(adapted.forward_features(image), tokens["lora"], **CLOSE)
