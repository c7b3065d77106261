"""The training loop: listeners, checkpoints, times of steps, and early stopping."""

import pickle
import time

import pandas as pd
import pytest
import torch

from rsft.errors import RsftError
from rsft.recipe.load import load_recipe
from rsft.training import recorder
from rsft.training.checkpointing import TrainingPosition, load_newest_checkpoint, save_checkpoint
from rsft.training.finetune import finetune
from rsft.training.recorder import EarlyStopping, StepTimer
from rsft.training.trackers import RunListener
from tests.helpers.messages import mentions


class CallRecorder(RunListener):
    """Records the calls of the loop in order."""

    def __init__(self):
        self.calls = []

    def on_start(self, run, metadata):
        self.calls.append("start")

    def on_step(self, step):
        self.calls.append((step.epoch, step.step, step.done, step.total))

    def on_epoch_end(self, row, scales):
        self.calls.append(("epoch", row["epoch"], row["val_macro"] == row["val_macro"], len(scales)))

    def on_end(self, failed):
        self.calls.append(("end", failed))


@pytest.mark.slow
def test_the_order_of_the_loop(recipe_file, tmp_path):
    fit = CallRecorder()
    recipe = load_recipe(recipe_file, ["train.batch_size=20", "evaluate.every=2", "meta.warmup=0"])
    finetune(recipe, tmp_path, fit)
    steps = [(epoch, step, 2 * epoch + step, 6) for epoch in range(3) for step in (1, 2)]
    epochs = [("epoch", 0, False, 36), ("epoch", 1, True, 36), ("epoch", 2, True, 36)]  # the last one has a validation
    expected = [steps[0:2], epochs[0:1], steps[2:4], epochs[1:2], steps[4:6], epochs[2:3]]
    assert fit.calls == ["start", *(call for calls in expected for call in calls), ("end", False)]


@pytest.mark.slow
def test_listeners_hear_of_an_error(recipe_file, tmp_path):
    class FailAtTheThirdStep(CallRecorder):
        def on_step(self, step):
            super().on_step(step)
            if step.done == 3:
                raise ValueError("a listener fails")

    fit = FailAtTheThirdStep()
    with pytest.raises(ValueError, match="a listener fails"):
        finetune(load_recipe(recipe_file), tmp_path, fit)
    assert fit.calls[-1] == ("end", True) and fit.calls[-2][2] == 3


@pytest.mark.slow
def test_a_resume_after_the_last_step_of_an_epoch_begins_with_the_validation(recipe_file, tmp_path, run, monkeypatch):
    overrides = ["train.checkpoint_steps=1"]

    def fail(*_, **__):
        raise RuntimeError("validation fails")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="validation fails"):
        patch.setattr("rsft.training.fit.validate", fail)
        finetune(load_recipe(recipe_file, overrides), tmp_path)
    folder = tmp_path / "bars/001"
    assert tuple(load_newest_checkpoint(folder / "checkpoints").position) == (0, 4)
    fit = CallRecorder()
    finetune(load_recipe(recipe_file, overrides), tmp_path, fit, resume=folder)
    assert fit.calls[1] == ("epoch", 0, True, 36)
    columns = ["epoch", "step", "train_loss", "meta_loss", "val_loss", "val_macro"]
    tables = (pd.read_csv(path / "metrics.csv")[columns] for path in (folder, run))
    pd.testing.assert_frame_equal(*tables)


def test_the_last_two_are_kept(tmp_path):
    for position in (TrainingPosition(0, 9), TrainingPosition(0, 10), TrainingPosition(1, 2)):
        save_checkpoint(tmp_path, position, {"step": torch.tensor(position)})
    assert [path.name for path in sorted(tmp_path.glob("*.ckpt"))] == ["00000-0000010.ckpt", "00001-0000002.ckpt"]
    checkpoint = load_newest_checkpoint(tmp_path)
    assert checkpoint.position == (1, 2) and checkpoint.state["step"].tolist() == [1, 2]


def test_a_folder_without_checkpoints(tmp_path):
    assert load_newest_checkpoint(tmp_path / "missing") is None


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Evil(), protocol=2)])
def test_an_unreadable_file_is_refused_and_no_code_in_it_runs(tmp_path, content, capsys):
    (tmp_path / "00000-0000001.ckpt").write_bytes(content)
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    torch.save({"format": 1, "position": (0, 1), "state": Evil()}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_a_file_of_another_format_is_refused(tmp_path):
    torch.save({"format": 0, "position": (0, 1), "state": {}}, tmp_path / "00000-0000002.ckpt")
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)


def test_the_log_says_why_a_file_is_refused(tmp_path, caplog):
    content = {"format": 1, "position": (0, 1), "state": {}}
    torch.save(content, tmp_path / "00000-0000001.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(tmp_path)
    assert "00000-0000001.ckpt cannot be read: it is not in the zip format" in caplog.text


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recorder.time, "perf_counter", lambda: now[0])
    return now


def test_time_of_a_joint_step_is_shared_by_rows(clock):
    timer = StepTimer()
    with timer(inner=1):
        clock[0] += 2
    clock[0] += 5  # waiting for data
    with timer(inner=24, outer=8):
        clock[0] += 4
    assert (timer.seconds("inner"), timer.seconds("outer"), timer.seconds("other")) == (5.0, 1.0, 0.0)
    timer.reset()
    assert timer.seconds("inner") == 0.0


def test_timer_does_not_wait_for_the_gpu(monkeypatch):
    class Event:
        done, at = False, 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter() * 1000

        def query(self):
            return Event.done

        def elapsed_time(self, end):
            return 1500.0

    monkeypatch.setattr(recorder.torch.cuda, "Event", Event)
    timer = StepTimer(cuda=True)
    with timer(inner=1):
        pass
    assert timer.seconds("inner") == 0.0
    Event.done = True
    assert timer.seconds("inner") == 1.5


def stops_after(early_stopping, *scores):
    """Whether training stops, after each validation."""
    stops = []
    for score in scores:
        early_stopping.update(score)
        stops.append(early_stopping.is_due)
    return stops


@pytest.mark.parametrize(
    ("min_delta", "scores", "stops"),
    [
        (0.0, [0.5, 0.4, 0.6, 0.6, 0.6], [False, False, False, False, True]),
        (0.2, [0.5, 0.6, 0.65], [False, False, True]),
    ],
)
def test_training_stops_after_two_validations_without_a_better_one(min_delta, scores, stops):
    assert stops_after(EarlyStopping(2, min_delta), *scores) == stops


def test_without_patience_training_never_stops():
    assert not any(stops_after(EarlyStopping(None, 0.0), 0.9, *[0.1] * 50))


def test_waiting_continues_after_a_resume():
    first, second = EarlyStopping(2, 0.0), EarlyStopping(2, 0.0)
    stops_after(first, 0.5, 0.4)
    second.load_state_dict(first.state_dict())
    assert not second.is_due
    assert stops_after(second, 0.5) == [True]
    third = EarlyStopping(2, 0.0)
    third.load_state_dict(second.state_dict())
    assert third.is_due  # a resumed run that had met the criterion stops at once
