"""A chip store trains with the classification task of TorchGeo."""

from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torchgeo.datamodules import BaseDataModule

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.loading.datamodule import ChipStoreDataModule, fit_store_contract
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions

if find_spec("torchgeo.tasks"):  # TorchGeo 0.10
    from torchgeo.tasks import Classification as ClassificationTask
else:
    from torchgeo.trainers import ClassificationTask

PIXELS = (
    np.stack([np.linspace(0.01, 1, 144), np.linspace(1, 100, 144)], 1)
    .reshape(12, 12, 2)
    .astype(np.float32)
)


def sigma0_store(root, scale=1.0):
    records = [
        ChipRecord(
            f"{split}{number}",
            split,
            label,
            root,
            read_pixels=lambda: PIXELS * scale,
            bands=("VV", "VH"),
            extra_columns={"unit": "sigma0"},
        )
        for split in ("train", "test")
        for number, label in enumerate(("a", "b"))
    ]
    return build_store(
        root / "store", records, StoreDescription("noise", ("a", "b"), "none")
    )


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_task_of_torchgeo_trains_one_step(root, tmp_path):
    data = ChipStoreDataModule(root, batch_size=8, size=32)
    assert isinstance(data, BaseDataModule) and (
        data.in_channels,
        data.num_classes,
    ) == (1, 3)
    task = ClassificationTask(
        "resnet18", in_channels=data.in_channels, num_classes=data.num_classes
    )
    before = task.model.conv1.weight.detach().clone()
    limits = {
        "max_epochs": 1,
        "limit_train_batches": 1,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
    }
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **limits, **quiet)
    trainer.fit(task, datamodule=data)
    assert not torch.equal(task.model.conv1.weight, before)
    assert {
        "train_loss",
        "val_loss",
        "val_AverageAccuracy",
    } <= trainer.callback_metrics.keys()


def test_samples_are_the_stretched_chips(root):
    data = ChipStoreDataModule(root, size=32)
    data.setup("fit")
    assert data.train_dataset is not None and data.val_dataset is not None
    rows = data.store.split("train")
    assert len(data.train_dataset) == len(rows) == 40 and len(data.val_dataset) == 18
    sample = data.train_dataset[5]
    expected = cv2.imread(str(root / rows["path"][5]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(sample["image"][0].numpy(), expected)
    assert (
        sample["image"].dtype == torch.float32 and sample["label"].dtype == torch.int64
    )
    assert data.store.classes[int(sample["label"])] == rows["class"][5]
    figure = data.plot(sample | {"prediction": torch.tensor(0)}, suptitle="Test")
    assert figure is not None and figure.axes[0].get_title().endswith(
        f"Prediction: {data.store.classes[0]}"
    )
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == (40, 1, 32, 32)
    torch.testing.assert_close(
        data.aug(batch)["image"].amax(), batch["image"].amax() / 255
    )


def test_units_are_converted_before_the_stretch(tmp_path):
    data = ChipStoreDataModule(
        sigma0_store(tmp_path).root,
        size=12,
        unit="db",
        stretch=((-20.0, 0.0), (0.0, 20.0)),
    )
    data.setup("test")
    assert data.test_dataset is not None
    decibel = 10 * np.log10(PIXELS)
    expected = np.clip((decibel - [-20, 0]) / 20 * 255, 0, 255).transpose(2, 0, 1)
    assert np.abs(data.test_dataset[0]["image"].numpy() - expected).max() <= 0.5 + 1e-3


def test_limits_are_measured_on_the_training_chips(tmp_path):
    contract = fit_store_contract(sigma0_store(tmp_path), size=12, stretch="percentile")
    first, second = contract.units["sigma0"]
    assert (
        first.low == second.low == 0
        and first.high is not None
        and second.high is not None
    )
    assert 0.95 < first.high < 1.01 and 95 < second.high < 101


def test_clipped_chips_are_counted(tmp_path, monkeypatch):
    pixels = (
        np.random.default_rng(0).gamma(1, [0.1, 10], (40, 40, 2)).astype(np.float32)
    )
    monkeypatch.setitem(globals(), "PIXELS", pixels)
    data = ChipStoreDataModule(
        sigma0_store(tmp_path).root, size=12, stretch="percentile"
    )
    with pytest.warns(
        UserWarning,
        match=mentions("brightest pixel", "100.0% (plane VV)", "100.0% (plane VH)"),
    ):
        data.setup("test")


def test_missing_splits_and_wrong_units_are_refused(tmp_path):
    root = sigma0_store(tmp_path).root
    with pytest.raises(RequestError, match=mentions("no val chips")) as caught:
        ChipStoreDataModule(root, size=12).setup("fit")
    assert "--val" in caught.value.hint
    with pytest.raises(DataError, match="sigma0 cannot become uint8"):
        ChipStoreDataModule(root, size=12, unit="uint8", stretch="percentile").setup(
            "test"
        )
    with pytest.raises(RequestError, match="not a chip store"):
        ChipStoreDataModule(tmp_path / "none")


def test_predict_takes_the_test_split(tmp_path):
    data = ChipStoreDataModule(str(sigma0_store(tmp_path).root), batch_size=2, size=6)
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    assert batch["image"].shape == (2, 2, 6, 6) and batch["label"].tolist() == [0, 1]


def test_chip_standard_is_refused(root):
    """TorchGeo normalizes batches after the augmentation, by one mean and standard
    deviation."""
    with pytest.raises(RequestError, match=mentions("TorchGeo", "mean")) as caught:
        ChipStoreDataModule(root, size=32, stretch="chip-standard").setup("fit")
    assert caught.value.location == "stretch" and "auto" in caught.value.hint
