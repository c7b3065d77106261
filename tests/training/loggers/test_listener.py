import json
import math

import pytest

from rsft.peft import Site
from rsft.recipe.load import load_recipe
from rsft.training.loggers import listener as tracking
from rsft.training.loggers.listener import TrackerListener
from rsft.training.recorder import StepReport
from rsft.training.runs.writer import Run

STEP = StepReport(0, 2, 5, 2, 15, 1.5, 30.0, 0.01, 0.2, 0.05, 800.0, math.nan, 12.0)


class FakeTracker:
    def __init__(self):
        self.id, self.points, self.closed, self.works = "abc", [], None, True

    def log(self, step, values):
        if not self.works:
            raise ConnectionError("no route")
        self.points.append((step, dict(values)))

    def close(self, failed):
        self.closed = failed


@pytest.fixture
def tracked(recipe_file, tmp_path, monkeypatch):
    fake = FakeTracker()
    record_ids = []
    monkeypatch.setattr(tracking, "open_tracker", lambda name, recipe, folder, id: record_ids.append(id) or fake)
    listener = TrackerListener(load_recipe(recipe_file, ["track.every=2"]))
    run = Run(tmp_path)
    listener.on_start(run, run.metadata)
    return listener, fake, run, record_ids


def test_only_finite_numbers_are_recorded(tracked):
    listener, fake, *_ = tracked
    for done in (1, 2, 3):
        listener.on_step(StepReport(**vars(STEP) | {"done": done}))
    assert [step for step, _ in fake.points] == [2]
    assert fake.points[0][1]["train/loss"] == 1.5 and "memory/gpu_mb" not in fake.points[0][1]
    listener.on_epoch_end({"epoch": 0, "step": 5, "val_macro": 0.5, "meta_loss": math.nan}, {Site(3, "q"): 1.25})
    assert fake.points[1] == (5, {"epoch/val_macro": 0.5, "modulator/blocks.3.q": 1.25})
    listener.on_end(failed=True)
    assert fake.closed is True


def test_a_resumed_run_continues_its_record(tracked):
    listener, _, run, record_ids = tracked
    listener.on_start(run, run.metadata)
    assert record_ids == [None, "abc"] and run.metadata["tracking"] == {"tensorboard": "abc"}


def test_a_failing_tracker_never_ends_a_run_and_is_no_longer_used(tracked):
    listener, fake, run, _ = tracked
    fake.works = False
    for _ in range(2):
        listener.on_step(STEP)
    fake.works = True
    listener.on_step(STEP)
    fake.works = False
    for _ in range(5):
        listener.on_step(STEP)
    assert len(fake.points) == 1
    assert json.loads((run.folder / "run.json").read_text())["tracking_lost"] == {"tensorboard": 5}
