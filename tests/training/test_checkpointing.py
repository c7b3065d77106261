import errno
import json
import os
import pickle
import signal
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.data.loading.batches import ChipImages
from rsft.errors import Interrupted, RequestError, RsftError
from rsft.models.classifier import Classifier
from rsft.models.devices import copy_to_device
from rsft.recipe.load import load_recipe
from rsft.training import fit
from rsft.training.checkpointing import (
    TrainingPosition,
    load_newest_checkpoint,
    save_checkpoint,
)
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import TIMING_COLUMNS, lock_run, read_run_info
from tests.helpers.messages import mentions


def test_a_position_is_named_as_users_count():
    assert str(TrainingPosition(2, 0)) == "the start of epoch 3"
    assert str(TrainingPosition(2, 5)) == "epoch 3, batch 5"


def test_the_last_two_are_kept(tmp_path):
    for position in (
        TrainingPosition(0, 9),
        TrainingPosition(0, 10),
        TrainingPosition(1, 2),
    ):
        save_checkpoint(tmp_path, position, {"step": torch.tensor(position)})
    assert [path.name for path in sorted(tmp_path.glob("*.ckpt"))] == [
        "00000-0000010.ckpt",
        "00001-0000002.ckpt",
    ]
    checkpoint = load_newest_checkpoint(tmp_path)
    assert checkpoint.position == (1, 2) and checkpoint.state["step"].tolist() == [1, 2]


def test_a_folder_without_checkpoints(tmp_path):
    assert load_newest_checkpoint(tmp_path / "missing") is None


def assert_no_checkpoint(folder):
    with pytest.raises(RsftError, match=mentions("no checkpoint")):
        load_newest_checkpoint(folder)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", pickle.dumps(Evil(), protocol=2)]
)
def test_an_unreadable_file_is_refused_and_no_code_in_it_runs(
    tmp_path, content, capsys
):
    (tmp_path / "00000-0000001.ckpt").write_bytes(content)
    assert_no_checkpoint(tmp_path)
    torch.save(
        {"format": 1, "position": (0, 1), "state": Evil()},
        tmp_path / "00000-0000002.ckpt",
    )
    assert_no_checkpoint(tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_a_file_of_another_format_is_refused(tmp_path):
    torch.save(
        {"format": 0, "position": (0, 1), "state": {}}, tmp_path / "00000-0000002.ckpt"
    )
    assert_no_checkpoint(tmp_path)


def test_the_log_says_why_a_file_is_refused(tmp_path, caplog):
    content = {"format": 1, "position": (0, 1), "state": {}}
    torch.save(
        content, tmp_path / "00000-0000001.ckpt", _use_new_zipfile_serialization=False
    )
    assert_no_checkpoint(tmp_path)
    assert "it is not in the zip format" in caplog.text


OVERRIDES = [
    "peft={rank: 4, dropout: 0.3}",
    "meta.warmup=0.5",
    "train.accumulate_grad_batches=2",
    "train.patience=9",
    "backbone.blocks=2",
    "train.checkpoint_steps=1",
    "evaluate.every=2",
]


class SignalAtStep(RunListener):
    """Sends a signal to this process at a step of the run."""

    def __init__(self, number, step):
        self.number = number
        self.step = step

    def on_step(self, step):
        if step.done == self.step:
            os.kill(os.getpid(), self.number)


def results(run):
    """Return the tables without timing and the hash of the bundle, which resuming must
    not change."""
    tables = [
        pd.read_csv(run.folder / name) for name in ("metrics.csv", "modulator.csv")
    ]
    texts = [
        table.drop(columns=list(TIMING_COLUMNS), errors="ignore").to_csv()
        for table in tables
    ]
    return [*texts, run.metadata["bundle_sha256"]]


@pytest.fixture(scope="module")
def unbroken_results(root, tmp_path_factory):
    from tests.helpers.bars_recipe import BARS_RECIPE

    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    run = finetune(load_recipe(folder / "bars.yaml", OVERRIDES), folder)
    assert pd.read_csv(run.folder / "metrics.csv")["meta_loss"].notna().all()
    return results(run)


@pytest.fixture
def recipe(recipe_file):
    return load_recipe(recipe_file, OVERRIDES)


def interrupt(recipe, folder, number=signal.SIGTERM, step=6):
    """Train until a signal arrives; return the run folder and the error."""
    with pytest.raises(Interrupted) as caught:
        finetune(recipe, folder, SignalAtStep(number, step))
    assert (
        json.loads((folder / "bars/001/run.json").read_text())["status"]
        == "interrupted"
    )
    return folder / "bars/001", caught.value


@pytest.fixture
def interrupted(recipe, tmp_path):
    return interrupt(recipe, tmp_path)[0]


def checkpoint_files(run_folder):
    return sorted((run_folder / "checkpoints").glob("*.ckpt"))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
@pytest.mark.parametrize(
    "step", [3, 4, 6]
)  # within an accumulated step, at the end of an epoch, in the next epoch
def test_a_resumed_run_equals_an_unbroken_one(
    recipe, tmp_path, unbroken_results, number, code, step
):
    handler = signal.getsignal(number)
    folder, error = interrupt(recipe, tmp_path, number, step)
    assert error.exit_code == code and error.hint == f"rsft finetune --resume {folder}"
    assert signal.getsignal(number) == handler
    assert results(finetune(recipe, tmp_path, resume=folder)) == unbroken_results
    assert not (folder / "checkpoints").exists()


@pytest.mark.exhaustive
def test_a_resumed_run_with_a_head_on_an_earlier_block(recipe_file, tmp_path):
    recipe = load_recipe(
        recipe_file, [*OVERRIDES, "head.earlier_blocks=[0]", "train.precision=bf16"]
    )
    unbroken = finetune(recipe, tmp_path / "unbroken")
    folder, _ = interrupt(recipe, tmp_path)
    assert results(finetune(recipe, tmp_path, resume=folder)) == results(unbroken)


@pytest.mark.exhaustive
def test_a_signal_during_validation(recipe, tmp_path, unbroken_results, monkeypatch):
    forward = Classifier.forward

    def signal_in_validation(classifier, inputs):
        if torch.is_inference_mode_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(classifier, inputs)

    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match="saved at epoch 2"),
    ):
        patch.setattr(Classifier, "forward", signal_in_validation)
        finetune(recipe, tmp_path)
    assert (
        results(finetune(recipe, tmp_path, resume=tmp_path / "bars/001"))
        == unbroken_results
    )


@pytest.mark.slow
def test_a_disk_that_is_full_at_a_checkpoint(
    recipe, tmp_path, unbroken_results, monkeypatch
):
    save = fit.torch.save
    calls = []

    def fail_at_the_third_call(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments)

    with (
        monkeypatch.context() as patch,
        pytest.raises(RsftError, match=mentions("disk is full", "previous checkpoint")),
    ):
        patch.setattr(fit.torch, "save", fail_at_the_third_call)
        finetune(recipe, tmp_path)
    folder = tmp_path / "bars/001"
    assert len(checkpoint_files(folder)) == 2
    assert read_run_info(folder).status == "failed"
    assert results(finetune(recipe, tmp_path, resume=folder)) == unbroken_results


@pytest.mark.slow
def test_a_disk_that_is_full_at_a_table(recipe, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(
        RsftError, match=r"the disk is full.*metrics.csv.*rsft finetune --resume"
    ):
        finetune(recipe, tmp_path)


@pytest.mark.exhaustive
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    recipe, interrupted, tmp_path, unbroken_results, caplog
):
    *_, newest = checkpoint_files(interrupted)
    newest.write_bytes(newest.read_bytes()[:1000])
    assert results(finetune(recipe, tmp_path, resume=interrupted)) == unbroken_results
    assert newest.name in caplog.text


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_chips(
    recipe, interrupted, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "rsft.training.runs.reader.hash_manifest", lambda root: "f" * 64
    )
    with pytest.raises(RequestError, match=mentions("chips have changed")):
        finetune(recipe, tmp_path, resume=interrupted)


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_number_of_threads(
    recipe, interrupted, tmp_path, unbroken_results, monkeypatch
):
    began_with = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: began_with + 1)
    # what sets the number that it gets would change the results of later tests
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    message = mentions(
        f"began with {began_with} threads",
        f"has {began_with + 1} now",
        str(interrupted),
    )
    with pytest.raises(RequestError, match=message) as caught:
        finetune(recipe, tmp_path, resume=interrupted)
    assert f"OMP_NUM_THREADS={began_with}," in caught.value.hint
    metadata = json.loads((interrupted / "run.json").read_text())
    del metadata["hardware"]  # a run that did not record it
    (interrupted / "run.json").write_text(json.dumps(metadata))
    assert results(finetune(recipe, tmp_path, resume=interrupted)) == unbroken_results


@pytest.mark.slow
def test_a_run_is_resumed_with_the_library_of_its_products(
    recipe, interrupted, tmp_path, unbroken_results, monkeypatch
):
    began_with = read_run_info(interrupted).metadata["matmul"]
    monkeypatch.setenv("RSFT_MATMUL", "torch" if began_with == "onednn" else "onednn")
    assert results(finetune(recipe, tmp_path, resume=interrupted)) == unbroken_results
    assert os.environ["RSFT_MATMUL"] == began_with


@pytest.mark.slow
def test_a_run_is_not_resumed_without_the_library_of_its_products(
    recipe, interrupted, tmp_path, monkeypatch
):
    metadata = json.loads((interrupted / "run.json").read_text())
    metadata["matmul"] = "another"
    (interrupted / "run.json").write_text(json.dumps(metadata))
    monkeypatch.setenv("RSFT_MATMUL", "torch")
    with pytest.raises(RequestError, match="another") as caught:
        finetune(recipe, tmp_path, resume=interrupted)
    assert "torch" in caught.value.hint
    assert read_run_info(interrupted).status == "interrupted"


@pytest.mark.slow
def test_a_run_is_not_resumed_without_its_data(recipe, interrupted, tmp_path):
    gone = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(tmp_path / "gone")})}
    )
    with pytest.raises(RequestError, match=mentions("not a chip store")):
        finetune(gone, tmp_path, resume=interrupted)
    assert read_run_info(interrupted).status == "interrupted"


@pytest.mark.slow
def test_chips_that_give_nan_are_named(recipe_file, tmp_path, monkeypatch):
    batch = ChipImages.batch

    def with_nan(chips, indices, images=None):
        inputs, labels = batch(chips, indices, images)
        inputs = copy_to_device(inputs, torch.device("cpu"))
        inputs[indices == 7] = np.nan
        return inputs, labels

    monkeypatch.setattr(ChipImages, "batch", with_nan)
    recipe = load_recipe(
        recipe_file, ["data.augment=none", "meta=null", "head.init=random"]
    )
    with pytest.raises(
        RsftError, match=r"loss of the inner loop is nan.*epoch 1, batch \d, chips"
    ) as caught:
        finetune(recipe, tmp_path)
    metadata = json.loads((tmp_path / "bars/001/run.json").read_text())
    assert metadata["status"] == "failed" and len(metadata["chips"]) == 1
    assert f"chips {metadata['chips'][0]};" in caught.value.location


@pytest.mark.slow
def test_a_run_in_progress_is_not_resumed(recipe, interrupted, tmp_path, monkeypatch):
    class ResumeAtStart(RunListener):
        def on_start(self, run, metadata):
            assert read_run_info(interrupted).status == "running"
            monkeypatch.setattr(
                "rsft.training.runs.reader.lock_run", partial(lock_run, timeout_s=0)
            )
            with pytest.raises(
                RequestError, match=mentions("in progress", "another process")
            ):
                finetune(recipe, tmp_path, resume=interrupted)

    finetune(recipe, tmp_path, ResumeAtStart(), resume=interrupted)
    assert read_run_info(interrupted).status == "done"
