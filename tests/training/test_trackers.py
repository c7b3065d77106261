import json
import math

import pytest

from rsft.errors import RequestError
from rsft.peft import Site
from rsft.recipe.load import load_recipe
from rsft.recipe.registries import TRACKERS
from rsft.training import trackers
from rsft.training.listeners import StepReport
from rsft.training.runs.writer import Run
from rsft.training.trackers import TrackerListener
from tests.helpers.plugins import needs_plugin

STEP = StepReport(0, 2, 5, 2, 15, 1.5, 30.0, 0.01, 0.2, 0.05, 800.0, math.nan, 12.0)


class FakeTracker:
    """A tracker of another package, and its open record."""

    name = "fake"
    title = "Fake"
    packages = ()
    works = True
    record_ids = []  # noqa: RUF012
    points = []  # noqa: RUF012
    closed = None

    def open(self, recipe, folder, record_id):
        self.record_ids.append(record_id)
        self.require_server()
        self.version = record_id or "abc"
        return self

    def log_metrics(self, metrics, step):
        self.require_server()
        self.points.append((step, dict(metrics)))

    def finalize(self, status):
        type(self).closed = status

    def require_server(self):
        if not self.works:
            raise ConnectionError("no route")


@pytest.fixture
def fake(monkeypatch):
    class Fake(FakeTracker):
        record_ids = []  # noqa: RUF012
        points = []  # noqa: RUF012

    TRACKERS.names()
    # no public name removes a component
    monkeypatch.setattr(TRACKERS, "_components", dict(TRACKERS._components))
    return TRACKERS.register(Fake)


@pytest.fixture
def start(recipe_file, tmp_path, fake):
    """Start or resume the run in `tmp_path`; return its listener and the run."""

    def start():
        listener = TrackerListener(
            load_recipe(recipe_file, ["track.every=2", "track.to=[fake]"])
        )
        run = Run(tmp_path)
        if (tmp_path / "run.json").exists():
            run.metadata = read_metadata(run)
        listener.on_start(run, run.metadata)
        return listener, run

    return start


def read_metadata(run):
    return json.loads((run.folder / "run.json").read_text())


def test_only_finite_numbers_are_recorded(start, fake):
    listener, _ = start()
    for done in (1, 2, 3):
        listener.on_step(StepReport(**vars(STEP) | {"done": done}))
    assert [step for step, _ in fake.points] == [2]
    assert (
        fake.points[0][1]["train/loss"] == 1.5
        and "memory/gpu_mb" not in fake.points[0][1]
    )
    listener.on_epoch_end(
        {"epoch": 0, "step": 5, "val_macro": 0.5, "meta_loss": math.nan},
        {Site(3, "q"): 1.25},
    )
    assert fake.points[1] == (5, {"epoch/val_macro": 0.5, "modulator/blocks.3.q": 1.25})
    listener.on_end(failed=True)
    assert fake.closed == "failed"


def test_a_resumed_run_continues_its_record(start, fake):
    start()
    _, run = start()
    assert fake.record_ids == [None, "abc"] and read_metadata(run)["tracking"] == {
        "fake": "abc"
    }


def test_a_record_that_cannot_be_opened_is_continued_by_a_later_resume(start, fake):
    start()
    fake.works = False
    listener, run = start()
    listener.on_step(STEP)
    assert not fake.points
    assert read_metadata(run)["tracking"] == {"fake": "abc"}
    fake.works = True
    start()[0].on_step(STEP)
    assert fake.record_ids == [None, "abc", "abc"] and len(fake.points) == 1


def test_a_failing_tracker_never_ends_a_run_and_is_no_longer_used(start, fake, caplog):
    listener, _ = start()
    listener.on_step(STEP)
    fake.works = False
    listener.on_step(STEP)
    fake.works = True
    listener.on_step(STEP)
    listener.on_end(failed=False)
    assert len(fake.points) == 1 and fake.closed is None
    (message,) = caplog.messages
    assert "track.to fake: ConnectionError: no route" in message


@needs_plugin("trackers")
def test_a_missing_package_is_reported_before_the_run(recipe_file, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    TrackerListener(load_recipe(recipe_file, ["track.to=[]"]))
    for names, package in (
        ("tensorboard", "tensorboard"),
        ("wandb", "wandb"),
        ("mlflow", "mlflow, sqlalchemy, alembic"),
    ):
        with pytest.raises(
            RequestError,
            match=rf"{names} needs {package} .* pip install 'rsft\[track\]'",
        ):
            TrackerListener(load_recipe(recipe_file, [f"track.to=[{names}]"]))
