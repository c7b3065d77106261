import os
import sqlite3
import subprocess
import sys

import pytest

from rsft.recipe.load import load_recipe
from rsft.recipe.registries import TRACKERS

pytestmark = pytest.mark.slow


def open_tracker(name, recipe, folder, record_id=None):
    return TRACKERS[name]().open(recipe, folder, record_id)


def test_the_names_of_trackers_do_not_need_torch():
    code = "import sys\nfrom rsft.recipe.registries import TRACKERS\n"
    code += (
        "print(*TRACKERS.names(), *{'torch', 'mlflow', 'tensorboard', 'wandb'} &"
        " set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["tensorboard", "mlflow", "wandb"]


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(point.step, round(point.value, 4)) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.fixture
def tensorboard(recipe_file, tmp_path):
    """Open the record of the run in `tmp_path`."""
    recipe = load_recipe(recipe_file)
    return lambda: open_tracker("tensorboard", recipe, tmp_path)


def test_tensorboard_reads_every_point_of_a_killed_run(tensorboard, tmp_path):
    record = tensorboard()
    record.log_metrics({"train/loss": 1.5, "pace/images_per_s": 1e6}, 0)
    record.log_metrics({"train/loss": -0.25}, 300)
    expected = {"train/loss": [(0, 1.5), (300, -0.25)], "pace/images_per_s": [(0, 1e6)]}
    assert (
        record.version == "tensorboard"
        and read_events(tmp_path / "tensorboard") == expected
    )
    record.finalize("success")
    assert read_events(tmp_path / "tensorboard") == expected


def test_a_run_without_numbers_has_no_event_file(tensorboard, tmp_path):
    tensorboard().finalize("failed")
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_replaces_what_it_repeats(tensorboard, tmp_path):
    killed = tensorboard()
    resumed = tensorboard()
    for step in (1, 2, 3):
        killed.log_metrics({"loss": float(step)}, step)
    resumed.log_metrics({"loss": 20.0}, 2)
    assert read_events(tmp_path / "tensorboard") == {"loss": [(1, 1.0), (2, 20.0)]}
    resumed.log_metrics({"loss": 30.0}, 3)
    resumed.finalize("success")
    assert read_events(tmp_path / "tensorboard") == {
        "loss": [(1, 1.0), (2, 20.0), (3, 30.0)]
    }


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # SummaryWriter's thread
def test_tensorboard_continues_after_a_full_disk(tensorboard, tmp_path):
    resource = pytest.importorskip("resource")
    record = tensorboard()
    record.log_metrics({"loss": 1.0}, 1)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (file,) = (tmp_path / "tensorboard").iterdir()
    try:
        # in the middle of a point, and of the start of a new file
        for size in (
            file.stat().st_size + 5,
            10,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            with pytest.raises(OSError, match="File too large"):
                record.log_metrics({"loss": 2.0}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    record.log_metrics({"loss": 3.0}, 3)
    record.finalize("success")
    assert read_events(tmp_path / "tensorboard") == {"loss": [(1, 1.0), (3, 3.0)]}


def test_mlflow_stores_recipe_and_numbers_and_continues_a_record(
    recipe_file, tmp_path, monkeypatch
):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    recipe = load_recipe(recipe_file, ["track.to=[mlflow]", "track.project=ships"])
    folder = tmp_path / "runs/bars/001"
    folder.mkdir(parents=True)
    first = open_tracker("mlflow", recipe, folder)
    first.log_metrics({"train/loss": 1.5}, 50)
    first.finalize("failed")
    assert first.experiment.get_run(first.version).info.status == "FAILED"
    resumed = open_tracker("mlflow", recipe, folder, record_id=first.version)
    assert first.experiment.get_run(first.version).info.status == "RUNNING"
    resumed.log_metrics({"train/loss": 0.5, "modulator/blocks.3.q": 1.25}, 100)
    resumed.finalize("success")
    stored = resumed.experiment.get_run(first.version)
    assert (
        resumed.version == first.version
        and stored.info.status == "FINISHED"
        and stored.info.run_name == "bars/001"
    )
    assert (
        stored.data.params["meta.lr"] == "0.05"
        and stored.data.params["peft.positions"] == "qkvo12"
    )
    assert stored.data.params.keys() == recipe.flatten().keys()
    assert stored.data.metrics == {"train/loss": 0.5, "modulator/blocks.3.q": 1.25}
    query = "select step, value from metrics where key = 'train/loss' order by step"
    assert sqlite3.connect(tmp_path / "mlflow.db").execute(query).fetchall() == [
        (50, 1.5),
        (100, 0.5),
    ]
    assert (
        os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
        and "MLFLOW_TRACKING_URI" not in os.environ
    )


@pytest.mark.exhaustive
def test_mlflow_writes_to_the_uri_of_the_recipe_or_of_the_environment(
    recipe_file, tmp_path, monkeypatch
):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/environment.db")
    for overrides in ([], [f"track.uri=sqlite:///{tmp_path}/recipe.db"]):
        recipe = load_recipe(recipe_file, ["track.to=[mlflow]", *overrides])
        open_tracker("mlflow", recipe, tmp_path).finalize("success")
        names = {path.name for path in tmp_path.glob("*.db")}
        assert names == (
            {"environment.db", "recipe.db"} if overrides else {"environment.db"}
        )


def test_wandb_offline(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    monkeypatch.setenv("WANDB_MODE", "offline")
    pytest.importorskip("wandb", exc_type=ImportError)
    recipe = load_recipe(recipe_file)
    first = open_tracker("wandb", recipe, tmp_path)
    assert (
        first.experiment.config["meta.lr"] == 0.05
        and first.experiment.project == "rsft"
    )
    first.log_metrics({"train/loss": 1.5}, 1)
    first.finalize("failed")
    resumed = open_tracker("wandb", recipe, tmp_path, first.version)
    resumed.log_metrics({"train/loss": 0.5}, 2)
    resumed.finalize("success")
    assert resumed.version == first.version
    assert list(
        tmp_path.glob(f"wandb/offline-run-*-{first.version}/run-{first.version}.wandb")
    )
