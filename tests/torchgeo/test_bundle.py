"""Bundles of checkpoints of the task."""

import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import timm
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from torchgeo.datamodules import BaseDataModule, NonGeoDataModule
from torchgeo.main import main
from torchgeo.models import ViTSmall16_Weights
from torchvision.models._api import WeightsEnum

from rsft.backbones.loading import find_card
from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.torchgeo import (
    ChipStoreDataModule,
    PEFTClassificationTask,
    bundle_from_checkpoint,
)
from tests.helpers.messages import mentions
from tests.torchgeo.tasks import LORA, QUIET, SHORT, SIZE, Labels, chips, fit, make_task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 12, 2), np.uint8)


def config(root, weights, folder):
    trainer = QUIET | SHORT | {"default_root_dir": str(folder)}
    return {
        "trainer": trainer,
        "model": {
            "class_path": "rsft.torchgeo.PEFTClassificationTask",
            "init_args": {
                **{
                    "model": "test_vit",
                    "weights": weights,
                    "in_channels": 1,
                    "num_classes": 3,
                    "lr": 0.02,
                },
                **{"peft": LORA, "learn_scales": True, "loss": "logit_adjustment"},
            },
        },
        "data": {
            "class_path": "rsft.torchgeo.ChipStoreDataModule",
            "init_args": {
                "root": str(root),
                "batch_size": 8,
                "size": SIZE,
                "mean": [10.0],
                "std": 200.0,
            },
        },
    }


def fit_with_lightning_cli(arguments):
    LightningCLI(
        PEFTClassificationTask,
        BaseDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=arguments,
    )


@pytest.mark.slow
@pytest.mark.parametrize("program", [main, fit_with_lightning_cli])
def test_command_lines_train_and_give_a_bundle(program, root, weights, tmp_path):
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config(root, weights, tmp_path)))
    with patch.dict(os.environ):  # TorchGeo's program sets options of GDAL
        program(
            [
                "fit",
                "--config",
                str(tmp_path / "fit.yaml"),
                "--model.init_args.lr",
                "0.03",
            ]
        )
    (path,) = tmp_path.rglob("*.ckpt")
    task = PEFTClassificationTask.load_from_checkpoint(path)
    assert (
        task.hparams["lr"] == 0.03
        and task.hparams["peft"] == LORA
        and task.model.modulator is not None
    )
    bundle_from_checkpoint(path, tmp_path / "bundle", weights=Path(weights))
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.contract.mean == pytest.approx(
        [10 / 255]
    ) and bundle.contract.std == pytest.approx([200 / 255])


@pytest.mark.slow
def test_a_bundle_gives_the_logits_of_the_task(trained, weights, root, tmp_path, rsft):
    task, path = trained
    code, text = rsft("bundle", "from", path, "--out", tmp_path / "bundle")
    assert code and "--weights" in text and weights in text
    code, text = rsft(
        "bundle", "from", path, "--out", tmp_path / "bundle", "--weights", weights
    )
    assert code == 0 and "bundle-encoder.safetensors" in text
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.classes == ("flat", "slanted", "steep") and bundle.train_counts == (
        24,
        4,
        12,
    )
    assert bundle.recipe.loss.build().tau == 0.5 and bundle.recipe.meta is not None
    paths = [root / path for path in ChipStore.open(root).split("val")["path"]]
    images = torch.from_numpy(
        np.stack([bundle.contract.to_input(read_chip(path)) for path in paths])
    )
    data = chips(root)
    data.setup("validate")
    (batch,) = [data.aug(batch) for batch in DataLoader(data.val_dataset, 18)]
    with torch.inference_mode():
        expected = task(batch["image"])
        logits = load_classifier(bundle, "cpu").predict(images).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    code, text = rsft("bundle", "show", tmp_path / "bundle")
    assert code == 0 and "timm:test_vit" in text and "joint" not in text
    code, text = rsft("bundle", "from", path, "--out", tmp_path / "bundle")
    assert code and "exists already" in text
    assert (
        rsft(
            "bundle",
            "from",
            path,
            "--out",
            tmp_path / "bundle",
            "--weights",
            weights,
            "--overwrite",
        )[0]
        == 0
    )
    assert rsft("bundle", "verify", tmp_path / "bundle")[0] == 0


@pytest.mark.slow
def test_images_of_another_size(weights, root, tmp_path, rsft):
    data = ChipStoreDataModule(root, batch_size=8, size=64)
    torch.manual_seed(0)
    task = make_task(weights, img_size=64)
    _, path = fit(task, data, tmp_path)
    again = PEFTClassificationTask.load_from_checkpoint(path).eval()
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(again(images), task.eval()(images))
    bundle_from_checkpoint(path, tmp_path / "bundle", weights=Path(weights))
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.contract.size == 64
    logits = load_classifier(bundle, "cpu")(images)
    torch.testing.assert_close(logits, task(images), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_weights_of_torchgeo_are_found_by_their_name(root, tmp_path, monkeypatch):
    member = ViTSmall16_Weights.SENTINEL1_GRD_MAE
    state = timm.create_model(
        "vit_small_patch16_224", in_chans=2, num_classes=0
    ).state_dict()
    monkeypatch.setattr(
        WeightsEnum, "get_state_dict", lambda self, **options: dict(state)
    )
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    torch.save(state, tmp_path / find_card(str(member)).weights.file)
    task = PEFTClassificationTask(
        "vit_small_patch16_224", member, 2, num_classes=3, peft=LORA
    )
    assert task.hparams["weights"] == "ViTSmall16_Weights.SENTINEL1_GRD_MAE"
    records = [
        ChipRecord(
            f"{split}{label}", split, label, root, lambda: PIXELS, bands=("VV", "VH")
        )
        for split in ("train", "val")
        for label in ("a", "b", "c")
    ]
    store = build_store(
        tmp_path / "store", records, StoreDescription("noise", ("a", "b", "c"), "none")
    )
    data = ChipStoreDataModule(store.root, batch_size=3, mean=100.0, std=50.0)
    _, path = fit(task, data, tmp_path / "run", limit_train_batches=1)
    assert bundle_from_checkpoint(path, tmp_path / "bundle") == []
    bundle = Bundle.load(tmp_path / "bundle")
    assert (
        bundle.recipe.backbone.name == str(member)
        and bundle.recipe.backbone.weights is None
    )
    images = torch.from_numpy(bundle.contract.to_input(PIXELS))[None]
    with torch.inference_mode():
        logits = load_classifier(bundle, "cpu").predict(images).logits
        torch.testing.assert_close(logits, task.eval()(images), atol=1e-5, rtol=1e-5)


class OtherData(NonGeoDataModule):
    """A data module of TorchGeo over raw values, with its own normalization."""

    mean, std = torch.tensor([40.0]), torch.tensor([80.0])

    def __init__(self, root):
        super().__init__(Labels, 8, 0)
        self.chips = chips(root)

    def setup(self, stage):
        self.chips.setup(stage)
        self.train_dataset = self.chips.train_dataset
        self.val_dataset = self.chips.val_dataset


@pytest.mark.slow
def test_what_a_checkpoint_lacks_is_asked_for(root, weights, tmp_path):
    task = make_task(weights)
    _, path = fit(task, OtherData(root), tmp_path)
    with pytest.raises(RequestError, match=mentions("OtherData")) as caught:
        bundle_from_checkpoint(path, tmp_path / "bundle")
    assert "--data" in caught.value.hint
    notes = bundle_from_checkpoint(
        path, tmp_path / "bundle", root, weights=Path(weights)
    )
    assert any("160 pixels" in note and "OtherData" in note for note in notes)
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.contract.mean == pytest.approx(
        [40 / 255]
    ) and bundle.contract.std == pytest.approx([80 / 255])
    checkpoint = torch.load(path, weights_only=True)
    for data, words in (
        ({}, ""),
        (checkpoint["rsft"]["data"] | {"mean": [1.0, 2], "std": [1.0, 2]}, "2 bands"),
    ):
        checkpoint["rsft"]["data"] = data
        torch.save(checkpoint, tmp_path / "other.ckpt")
        with pytest.raises(
            RequestError, match=words if data else "not trained with a data module"
        ):
            bundle_from_checkpoint(tmp_path / "other.ckpt", tmp_path / "b", root)


@pytest.mark.slow
def test_foreign_and_damaged_checkpoints_are_refused(tmp_path, weights, trained):
    with pytest.raises(RequestError, match="no such checkpoint"):
        bundle_from_checkpoint(tmp_path / "none.ckpt", tmp_path / "bundle")
    with pytest.raises(WeightsError, match="no checkpoint of a PEFTClassificationTask"):
        bundle_from_checkpoint(Path(weights), tmp_path / "bundle")
    (tmp_path / "cut.ckpt").write_bytes(trained[1].read_bytes()[:-100])
    with pytest.raises(WeightsError, match=mentions("truncated", "cut.ckpt")):
        bundle_from_checkpoint(tmp_path / "cut.ckpt", tmp_path / "bundle")
    edits = {
        "peft": "other",
        "model": "hf-hub:some/model",
        "num_classes": 10**9,
        "in_channels": 10**9,
        "task": "binary",
    }
    for key, value in edits.items():
        checkpoint = torch.load(trained[1], weights_only=True)
        checkpoint["hyper_parameters"][key] = value
        torch.save(checkpoint, tmp_path / "edited.ckpt")
        with pytest.raises((RequestError, WeightsError)):
            bundle_from_checkpoint(tmp_path / "edited.ckpt", tmp_path / "bundle")
    for key, value in {
        "contract": {},
        "classes": 3,
        "groups": None,
        "bands": ["gray", "VV"],
        "root": 1,
    }.items():
        checkpoint = torch.load(trained[1], weights_only=True)
        checkpoint["rsft"]["data"][key] = value
        torch.save(checkpoint, tmp_path / "edited.ckpt")
        with pytest.raises((RequestError, WeightsError)):
            bundle_from_checkpoint(
                tmp_path / "edited.ckpt", tmp_path / "bundle", weights=Path(weights)
            )
    for file in (tmp_path / "none", trained[1]):
        with pytest.raises(
            WeightsError, match=mentions("tensors of test_vit are missing", file)
        ):
            bundle_from_checkpoint(trained[1], tmp_path / "bundle", weights=file)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_bundle_of_a_convolutional_network(root, tmp_path):
    model = "test_resnet"
    network = timm.create_model(model, in_chans=1, num_classes=0)
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(
        {"hyper_parameters": {"model": model}, "state_dict": state},
        tmp_path / "encoder.ckpt",
    )
    task = PEFTClassificationTask(
        model,
        str(tmp_path / "encoder.ckpt"),
        1,
        num_classes=3,
        peft={"method": "lora", "positions": "all"},
    )
    with torch.no_grad():
        for parameter in task.model.theta:
            parameter.add_(0.1 * torch.randn_like(parameter))
    task._trainer = SimpleNamespace(datamodule=OtherData(root))
    checkpoint = {
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
    }
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "task.ckpt")
    weights = tmp_path / "encoder.ckpt"
    with pytest.raises(RequestError, match="any size") as caught:
        bundle_from_checkpoint(
            tmp_path / "task.ckpt", tmp_path / "bundle", root, weights=weights
        )
    assert "--size" in caught.value.hint
    bundle_from_checkpoint(
        tmp_path / "task.ckpt", tmp_path / "bundle", root, 64, weights
    )
    classifier = load_classifier(Bundle.load(tmp_path / "bundle"), "cpu")
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        logits = classifier.predict(images).logits
        torch.testing.assert_close(logits, task.eval()(images), atol=1e-4, rtol=1e-4)
    checkpoint["hyper_parameters"]["in_channels"] = 2
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(
        RequestError, match=mentions("2 channels and 3 classes", "1 and 3")
    ):
        bundle_from_checkpoint(
            tmp_path / "other.ckpt", tmp_path / "bundle", root, 64, weights
        )
