import errno
import json
import os
import signal

import numpy as np
import pandas as pd
import pytest

from rsft.data.loading.datamodule import ChipImages
from rsft.errors import Interrupted, RequestError, RsftError
from rsft.recipe.load import load_recipe
from rsft.training.callbacks.recorder import Listener
from rsft.training.ensemble import finetune
from rsft.training.lightning_module import FineTuning
from rsft.training.runs import checkpoints
from rsft.training.runs.reader import TIMING, read_run

WISHES = [
    "peft={rank: 4, dropout: 0.3}",
    "meta.warmup=0.5",
    "train.accumulate=2",
    "train.patience=9",
    "train.checkpoint_steps=1",
    "evaluate.every=2",
]


class Stop(Listener):
    """Sends this process a signal at a step of the run."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def stepped(self, step):
        if step.done == self.step:
            os.kill(os.getpid(), self.number)


def left(run):
    """What must be equal."""
    tables = [pd.read_csv(run.folder / name) for name in ("metrics.csv", "modulator.csv")]
    plain = [table.drop(columns=list(TIMING), errors="ignore").to_csv() for table in tables]
    return [*plain, run.facts["bundle_sha256"]]


@pytest.fixture(scope="module")
def unbroken(root, tmp_path_factory):
    from tests.conftest import RECIPE

    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "bars.yaml").write_text(RECIPE.replace("ROOT", str(root)))
    run = finetune(load_recipe(folder / "bars.yaml", WISHES), folder)
    assert pd.read_csv(run.folder / "metrics.csv")["meta_loss"].notna().all()
    return left(run)


@pytest.fixture
def recipe(recipe_file):
    return load_recipe(recipe_file, WISHES)


def stopped(recipe, folder, number=signal.SIGTERM, step=6):
    with pytest.raises(Interrupted) as caught:
        finetune(recipe, folder, Stop(number, step))
    assert json.loads((folder / "bars/001/run.json").read_text())["status"] == "interrupted"
    return folder / "bars/001", caught.value


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [3, 4, 6])  # half an accumulated step, the end of an epoch, in the next one
def test_stopped_and_resumed_is_unbroken(recipe, tmp_path, unbroken, number, code, step):
    before = signal.getsignal(number)
    folder, error = stopped(recipe, tmp_path, number, step)
    assert error.exit_code == code and error.fix == f"rsft finetune --resume {folder}"
    assert signal.getsignal(number) == before
    assert left(finetune(recipe, tmp_path, resume=folder)) == unbroken
    assert not (folder / "checkpoints").exists()


def test_stopped_in_validation(recipe, tmp_path, unbroken, monkeypatch):
    step = FineTuning.validation_step

    def stop(task, *batch):
        os.kill(os.getpid(), signal.SIGTERM)
        step(task, *batch)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved at epoch 2"):
        patch.setattr(FineTuning, "validation_step", stop)
        finetune(recipe, tmp_path)
    assert left(finetune(recipe, tmp_path, resume=tmp_path / "bars/001")) == unbroken


def test_a_full_disk(recipe, tmp_path, unbroken, monkeypatch):
    save, calls = checkpoints.torch.save, []

    def full(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments)

    with monkeypatch.context() as patch, pytest.raises(RsftError, match="no room for the checkpoint"):
        patch.setattr(checkpoints.torch, "save", full)
        finetune(recipe, tmp_path)
    folder = tmp_path / "bars/001"
    assert len(list((folder / "checkpoints").glob("*.ckpt"))) == 2
    assert read_run(folder).status == "failed"
    assert left(finetune(recipe, tmp_path, resume=folder)) == unbroken


def test_a_full_disk_elsewhere(recipe, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(RsftError, match=r"No space left.*metrics.csv.*rsft finetune --resume"):
        finetune(recipe, tmp_path)


def test_a_damaged_checkpoint_is_passed_over(recipe, tmp_path, unbroken, caplog):
    folder, _ = stopped(recipe, tmp_path)
    *_, last = sorted((folder / "checkpoints").glob("*.ckpt"))
    last.write_bytes(last.read_bytes()[:1000])
    assert left(finetune(recipe, tmp_path, resume=folder)) == unbroken
    assert last.name in caplog.text


def test_other_chips_are_refused(recipe, tmp_path, root, monkeypatch):
    folder, _ = stopped(recipe, tmp_path)
    monkeypatch.setattr("rsft.training.runs.writer.data", lambda root: {"manifest_sha256": "f" * 64})
    with pytest.raises(RequestError, match="the chips are not those that the run began with"):
        finetune(recipe, tmp_path, resume=folder)


def test_data_that_vanished(recipe, tmp_path):
    folder, _ = stopped(recipe, tmp_path)
    gone = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": str(tmp_path / "gone")})})
    with pytest.raises(RequestError, match="there is no chip store"):
        finetune(gone, tmp_path, resume=folder)
    assert read_run(folder).status == "interrupted"


def test_chips_that_give_nan_are_named(recipe_file, tmp_path, monkeypatch):
    batch = ChipImages.batch

    def holed(chips, indices, augment=None):
        inputs, labels = batch(chips, indices, augment)
        inputs[indices == 7] = np.nan
        return inputs, labels

    monkeypatch.setattr(ChipImages, "batch", holed)
    recipe = load_recipe(recipe_file, ["data.augment=none", "meta=null", "head.init=random"])
    with pytest.raises(RsftError, match=r"loss of the inner loop is nan.*epoch 1, batch \d, chips") as caught:
        finetune(recipe, tmp_path)
    facts = json.loads((tmp_path / "bars/001/run.json").read_text())
    assert facts["status"] == "failed" and len(facts["chips"]) == 1
    assert caught.value.where.endswith(f"chips {facts['chips'][0]}")


def test_a_run_that_goes_on_is_not_resumed(recipe, tmp_path, monkeypatch):
    folder, _ = stopped(recipe, tmp_path)

    class Second(Listener):
        def started(self, run, facts):
            assert read_run(folder).status == "running"
            monkeypatch.setattr(
                "rsft.training.runs.writer.hold",
                lambda place: __import__("rsft.training.runs.reader").runs.hold(place, 0),
            )
            with pytest.raises(RequestError, match="still goes on"):
                finetune(recipe, tmp_path, resume=folder)

    finetune(recipe, tmp_path, Second(), resume=folder)
    assert read_run(folder).status == "done"
