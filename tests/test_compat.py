"""Open the artifacts of earlier versions, tests/compat/<version>/, which
tools/maintenance/make_compat.py writes.

The tests use the command line and names of files, so that names in the code may change.
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

from tests.helpers.plugins import needs_plugin

pytestmark = [pytest.mark.slow, needs_plugin("trackers", "sweeps")]

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
"""Larger than the rounding differences between processors, and far smaller than the
effect of a lost state."""

MACHINE_COLUMNS = {
    "seconds",
    "images_per_s",
    "data_s",
    "inner_s",
    "outer_s",
    "memory_mb",
    "gpu_mb",
}
VERSIONS = sorted(
    path for path in (Path(__file__).parent / "compat").iterdir() if path.is_dir()
)
RUNS = ("run", "run_average")


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old_folder(request, rsft, tmp_path, monkeypatch):
    """Copy of a version's artifacts, as the working directory."""
    folder = shutil.copytree(request.param, tmp_path / request.param.name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run_command(old_folder, rsft):
    """Run a command in that folder, assert that it succeeds, and return what it
    printed."""

    def run(*arguments):
        code, printed = rsft(*arguments)
        assert code == 0, printed
        return printed

    return run


def assert_tables_match(actual, expected):
    """Assert that the new table has the columns and values of the old one, except for
    rounding."""
    assert len(actual) == len(expected)
    for column in expected.columns.difference(MACHINE_COLUMNS):
        values = actual[column]
        old_values = expected[column]
        if pd.api.types.is_float_dtype(old_values):
            np.testing.assert_allclose(
                values.to_numpy(float),
                old_values.to_numpy(float),
                err_msg=column,
                **TOLERANCE,
            )
        elif column != "bundle_sha256":
            assert list(map(str, values)) == list(map(str, old_values)), column


def assert_tensors_match(actual, expected):
    """Assert that both have the same names and, except for rounding, the same
    values."""
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_allclose(actual[name], tensor, err_msg=name, **TOLERANCE)


@pytest.mark.parametrize("run", RUNS)
def test_bundle_predicts_as_before(old_folder, run_command, run):
    run_command(
        "predict", run, "store/chips/test", "-o", "now.csv", "--engine", "torch"
    )
    assert_tables_match(pd.read_csv("now.csv"), pd.read_csv(f"{run}_predictions.csv"))


@pytest.mark.parametrize("run", RUNS)
def test_a_contract_keeps_its_stretch(old_folder, run):
    from rsft.models.bundle.bundle import Bundle

    stored = json.loads((old_folder / run / "bundle/bundle.json").read_text())[
        "contract"
    ]
    contract = Bundle.load(old_folder / run / "bundle").contract
    assert (
        contract.model_dump(mode="json")["units"] == stored["units"]
        and "uint16" in stored["units"]
    )
    assert contract.clipping_note == ""


def test_a_run_that_began_earlier_keeps_its_stretch(old_folder):
    from rsft.recipe.load import load_recipe
    from rsft.training.runs.reader import read_run_info
    from rsft.training.setup import set_up

    recipe = load_recipe(Path("run_average/recipe.yaml"))
    run = read_run_info(Path("run_average"))
    units = set_up(run.recipe).contract.model_dump(mode="json")["units"]
    assert (
        units
        == json.loads(Path("run_average/bundle/bundle.json").read_text())["contract"][
            "units"
        ]
    )
    brighter = set_up(recipe).contract.units
    assert (
        brighter["uint16"][0].white > units["uint16"][0]["high"]
        and brighter["uint8"][0].white == 255
    )


def test_bundle_commands(old_folder, run_command):
    for run in RUNS:
        index = json.loads((old_folder / run / "bundle/bundle.json").read_text())
        assert "fault" not in run_command(
            "bundle", "verify", run, "--sha256", index["sha256"]
        )
        assert all(
            name in run_command("bundle", "show", run) for name in index["classes"]
        )
    assert json.loads(run_command("bundle", "show", "run", "--json"))["sha256"]


def test_store_takes_new_labels(old_folder, run_command):
    path, label = pd.read_parquet("store/manifest.parquet")[["path", "class"]].iloc[0]
    Path("labels.csv").write_text(f"path,class\nstore/{path},new class\n")
    printed = run_command(
        "data", "add", "store", "labels.csv", "--new-class", "new class"
    )
    assert f"1  {label} is now new class" in printed
    assert "new class" in run_command("data", "show", "store")


def test_runs_commands(old_folder, run_command):
    run_list = run_command("runs", "ls", ".")
    assert (
        "broken" not in run_list
        and run_list.count("done") == 2
        and run_list.count("interrupted") == 1
    )
    assert "4/4" in run_list and "2/6" in run_list  # epochs
    for run in (*RUNS, "run_stopped"):
        assert "broken" not in run_command("runs", "show", run)
    assert "peft.rank" in run_command("runs", "compare", *RUNS, "run_stopped")
    run_command("runs", "rm", "run_average", "--yes")
    assert not (old_folder / "run_average").exists()


def test_reports(old_folder, run_command):
    for run in RUNS:
        run_command("report", run)
        assert (old_folder / run / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    "run", ["run", pytest.param("run_average", marks=pytest.mark.exhaustive)]
)
def test_evaluation_matches(old_folder, run_command, run, monkeypatch):
    """The predictions of both runs are compared by `test_bundle_predicts_as_before`."""
    # the baseline of a few chips takes many epochs
    monkeypatch.setattr("rsft.training.small_network.STEPS", 1)
    run_command("evaluate", run, "store", "--out", "now", "--compare", "run")
    actual, expected = (
        pd.read_parquet(Path(path) / "predictions.parquet")
        for path in ("now", f"{run}/evaluation")
    )
    assert_tables_match(actual, expected)


def test_resumed_run_matches_the_run_without_a_stop(old_folder, run_command):
    run_command("finetune", "--resume", "run_stopped", "--no-report")
    assert (
        json.loads((old_folder / "run_stopped/run.json").read_text())["status"]
        == "done"
    )
    expected = old_folder / "run_stopped_expected"
    for name in ("metrics.csv", "modulator.csv"):
        assert_tables_match(
            pd.read_csv(old_folder / "run_stopped" / name), pd.read_csv(expected / name)
        )
    weights = load_file(old_folder / "run_stopped/bundle/weights.safetensors")
    assert_tensors_match(weights, load_file(expected / "weights.safetensors"))


def test_run_from_an_old_recipe(old_folder, run_command):
    run_command(
        "finetune", "run/recipe.yaml", "train.epochs=1", "--no-report", "--runs", "now"
    )
    (folder,) = (old_folder / "now").glob("*/001")
    index = json.loads((folder / "bundle/bundle.json").read_text())
    old_index = json.loads((old_folder / "run" / "bundle/bundle.json").read_text())
    assert (
        index["classes"] == old_index["classes"]
        and index["backbone"] == old_index["backbone"]
    )


def test_chip_store_opens(old_folder, run_command):
    dataset = json.loads((old_folder / "store/dataset.json").read_text())
    assert all(
        label in run_command("data", "show", "store") for label in dataset["classes"]
    )
    assert "48-48 px" in run_command("data", "stats", "store")
    run_command("audit", "store")


def test_finished_sweep_is_not_run_again(old_folder, run_command):
    pytest.importorskip("ray")
    trials = sorted((old_folder / "sweep/sweeps/finished/trials").glob("*/trial.json"))
    before = {path: path.stat().st_mtime_ns for path in trials}
    table = pd.read_parquet(old_folder / "sweep/sweeps/finished/results.parquet")
    printed = run_command("sweep", "sweep/finished.yaml", "--runs", "sweep")
    assert "best  peft.positions" in printed and "remain" not in printed
    assert {path: path.stat().st_mtime_ns for path in trials} == before and len(
        before
    ) == 2
    results = pd.read_parquet(old_folder / "sweep/sweeps/finished/results.parquet")
    assert list(results["id"]) == list(table["id"]) and set(table["id"]) == {
        path.parent.name for path in trials
    }
    assert_tables_match(results, table)


def open_sweep(name):
    """Return the folder of a sweep of the old version, without running it."""
    from rsft.plugins.sweeps.sweep import SweepFolder
    from rsft.plugins.sweeps.sweep_file import read_sweep
    from rsft.plugins.sweeps.trial_list import list_trials

    settings, document = read_sweep(Path(f"sweep/{name}.yaml"), [])
    trials = list_trials(settings, document)
    return SweepFolder(Path("sweep/sweeps", name), settings, trials)


def test_stopped_sweep_lists_its_unfinished_trial(old_folder, run_command):
    sweep = open_sweep("unfinished")
    assert (sweep.planned, sweep.report().remaining) == (2, 1)
    runs = [
        path.parent
        for path in (old_folder / "sweep/sweeps/unfinished/trials").glob(
            "*/*/*/run.json"
        )
    ]
    (stopped,) = [
        run
        for run in runs
        if json.loads((run / "run.json").read_text())["status"] == "interrupted"
    ]
    run_command("finetune", "--resume", stopped, "--no-report")
    assert len(pd.read_csv(stopped / "metrics.csv")) == 3


@pytest.mark.exhaustive
def test_stopped_sweep_is_finished(old_folder):
    pytest.importorskip("ray")
    folder = old_folder / "sweep/sweeps/unfinished"
    before = {path: path.read_bytes() for path in folder.glob("trials/*/trial.json")}
    command = [
        sys.executable,
        "-m",
        "rsft",
        "sweep",
        "sweep/unfinished.yaml",
        "--runs",
        "sweep",
        "--jobs",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    outcomes = {
        path: json.loads(path.read_text())
        for path in folder.glob("trials/*/trial.json")
    }
    assert [outcome["status"] for outcome in outcomes.values()] == ["done", "done"]
    assert len(before) == 1 and all(
        path.read_bytes() == content for path, content in before.items()
    )
    # the stopped run was resumed, and no run was started
    assert len(list(folder.glob("trials/*/*/*/run.json"))) == 2


def test_sweep_with_every_key(old_folder):
    sweep = open_sweep("every_key")
    assert sweep.report().remaining == sweep.planned > 0


def test_recipes_keep_their_values(old_folder, rsft, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    overrides = yaml.safe_load((old_folder / "recipes/overrides.yaml").read_text())
    for name, old_values in json.loads(
        (old_folder / "recipes/values.json").read_text()
    ).items():
        file, *changes = overrides.get(name, [name])
        code, printed = rsft("recipes", "validate", f"recipes/{file}", *changes)
        assert code == 0, printed
        values = flatten(yaml.safe_load(printed))
        if "track" not in yaml.safe_load((old_folder / f"recipes/{file}").read_text()):
            old_values["track.to"] = []  # 0.2 recorded every run in TensorBoard
        if old_values["data.workers"] == 0:  # the default of 0.2
            old_values["data.workers"] = "auto"
        assert {key: values[key] for key in old_values} == old_values, name


def flatten(document):
    """Return values by dotted key; a section that is off has the value None."""
    rows = {}
    for name, value in document.items():
        rows |= (
            {f"{name}.{key}": item for key, item in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return rows


def load_network(state):
    """Return the small network of the adapters."""
    from timm.models.vision_transformer import VisionTransformer

    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=0
    )
    vit.load_state_dict(state)
    return vit


def test_adapters_load(old_folder, tmp_path):
    import torch

    from rsft import peft

    tokens = load_file(old_folder / "adapters/tokens.safetensors")
    state = load_file(old_folder / "adapters/network.safetensors")
    image = state.pop("image")
    for name, expected in tokens.items():
        path = old_folder / "adapters" / f"{name}.safetensors"
        adapted = peft.load(load_network(state), path)
        with torch.no_grad():
            np.testing.assert_allclose(
                adapted.forward_features(image), expected, err_msg=name, **TOLERANCE
            )
        adapted.save(tmp_path / "again.safetensors")
        assert_tensors_match(load_file(tmp_path / "again.safetensors"), load_file(path))
    adapted = peft.import_peft(load_network(state), old_folder / "adapters/peft")
    with torch.no_grad():
        np.testing.assert_allclose(
            adapted.forward_features(image), tokens["lora"], **TOLERANCE
        )
