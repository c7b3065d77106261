"""The PEFT task in TorchGeo's and Lightning's programs, and a bundle of its
checkpoint."""

import os
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import timm
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn
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
from rsft.peft import METHODS, LoRA, attach
from rsft.torchgeo import (
    ChipStoreDataModule,
    PEFTClassificationTask,
    bundle_from_checkpoint,
)
from rsft.training.optim.losses import DeferredReweighting
from tests.helpers.messages import mentions
from tests.helpers.style import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

SIZE = 160
PIXELS = np.random.default_rng(0).integers(0, 255, (12, 12, 2), np.uint8)
LORA = {"method": "lora", "rank": 2, "positions": "qv"}
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
SHORT = {
    "max_epochs": 1,
    "limit_train_batches": 2,
    "limit_val_batches": 1,
    "num_sanity_val_steps": 0,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of a network of one channel, as TorchGeo reads it."""
    torch.manual_seed(1)
    network = timm.create_model("test_vit", in_chans=1, num_classes=2)
    path = tmp_path_factory.mktemp("weights") / "encoder.ckpt"
    state = {
        f"model.{name}": tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith("head.")
    }
    torch.save({"hyper_parameters": {"model": "test_vit"}, "state_dict": state}, path)
    return str(path)


def make_task(weights, **options):
    return PEFTClassificationTask(
        "test_vit", weights, 1, num_classes=3, **{"peft": LORA, "lr": 0.01} | options
    )


def fit(task, datamodule, folder, **options):
    trainer = Trainer(default_root_dir=folder, **QUIET, **SHORT | options)
    trainer.fit(task, datamodule=datamodule)
    return trainer, Path(trainer.checkpoint_callback.best_model_path)


def chips(root, **options):
    return ChipStoreDataModule(root, batch_size=8, size=SIZE, **options)


@pytest.fixture(scope="module")
def trained(weights, root, tmp_path_factory):
    """A trained task with learned scales, and its checkpoint."""
    torch.manual_seed(0)
    task = make_task(
        weights, learn_scales=True, loss={"name": "logit_adjustment", "tau": 0.5}
    )
    _, path = fit(task, chips(root), tmp_path_factory.mktemp("run"))
    return task.eval(), path


def test_head_and_modules_move_and_the_rest_stays(weights, root, tmp_path):
    torch.manual_seed(0)
    task = make_task(weights)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    fit(task, chips(root), tmp_path)
    after = task.model.state_dict()
    learned = {name.removeprefix("model.") for name in task.learned_names()}
    assert not torch.equal(after["vit.head.weight"], before["vit.head.weight"])
    assert not torch.equal(after["vit.head.bias"], before["vit.head.bias"])
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved and moved <= learned and "vit.head.weight" in moved
    assert any("additive.0" in name for name in moved)


@pytest.mark.filterwarnings("default")
def test_the_head_of_any_task_moves_if_it_is_named(root, tmp_path):
    task = PEFTClassificationTask.__base__("test_vit", in_channels=1, num_classes=3)
    with pytest.warns(
        UserWarning, match=mentions("head", "frozen", "train_also=('head',)")
    ):
        attach(task.model, LoRA(rank=2)).detach()
    task.model = attach(task.model, LoRA(rank=2), train_also=("head",))
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    fit(task, chips(root), tmp_path)
    moved = {
        name
        for name, tensor in task.model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert {"vit.head.weight", "vit.head.bias"} <= moved
    assert all(name.startswith(("vit.head.", "additive.")) for name in moved)


def test_a_checkpoint_holds_the_learned_tensors_and_loads_back(trained, weights):
    task, path = trained
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["state_dict"].keys() == task.learned_names()
    assert (
        checkpoint["hyper_parameters"]["peft"] == LORA
        and checkpoint["hyper_parameters"]["weights"] == weights
    )
    assert checkpoint["hyper_parameters"]["class_counts"] == [24, 4, 12]
    assert sum(x.numel() for x in checkpoint["state_dict"].values()) < 0.1 * sum(
        x.numel() for x in task.model.parameters()
    )
    loaded = PEFTClassificationTask.load_from_checkpoint(path).eval()
    images = torch.randn(2, 1, SIZE, SIZE)
    assert torch.equal(loaded(images), task(images))
    assert any(scale != 1 for scale in loaded.model.modulator.scales().values())


@pytest.mark.slow
def test_training_resumes(trained, weights, root, tmp_path):
    task = make_task(
        weights, learn_scales=True, loss={"name": "logit_adjustment", "tau": 0.5}
    )
    trainer = Trainer(default_root_dir=tmp_path, **QUIET, **SHORT | {"max_epochs": 2})
    trainer.fit(task, datamodule=chips(root), ckpt_path=trained[1])
    assert trainer.current_epoch == 2 and trainer.global_step == 4


def test_other_frozen_weights_and_missing_tensors_are_refused(
    trained, weights, tmp_path
):
    checkpoint = torch.load(trained[1], weights_only=True)
    other = torch.load(weights, weights_only=True)
    other["state_dict"]["model.norm.weight"] += 1
    torch.save(other, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=mentions("test_vit differ", "other.ckpt")):
        PEFTClassificationTask.load_from_checkpoint(
            trained[1], weights=str(tmp_path / "other.ckpt")
        )
    del checkpoint["state_dict"]["model.vit.head.bias"]
    torch.save(checkpoint, tmp_path / "cut.ckpt")
    with pytest.raises(
        WeightsError, match=mentions("1 learned tensors are missing", "head.bias")
    ):
        PEFTClassificationTask.load_from_checkpoint(tmp_path / "cut.ckpt")


@pytest.mark.slow
def test_random_weights_are_a_warning_and_stay_in_the_checkpoint(root, tmp_path):
    with pytest.warns(
        UserWarning,
        match=mentions("random weights of test_vit stay frozen", "weights="),
    ):
        task = make_task(None)
    _, path = fit(task, chips(root), tmp_path)
    images = torch.randn(1, 1, SIZE, SIZE)
    loaded = PEFTClassificationTask.load_from_checkpoint(path).eval()
    assert torch.equal(loaded(images), task.eval()(images))
    with pytest.raises(RequestError, match=mentions("test_vit are random", path.name)):
        bundle_from_checkpoint(path, tmp_path / "bundle")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_task(None, peft="full")


@pytest.mark.slow
def test_wrong_arguments_are_named(weights):
    with pytest.raises(RequestError, match=mentions("input channels 3", "1")) as caught:
        PEFTClassificationTask("test_vit", weights, 3, num_classes=3)
    assert caught.value.location == "in_channels"
    with pytest.raises(RequestError, match=mentions("peft.method", "lora")):
        make_task(weights, peft="lorra")
    with pytest.raises(RequestError, match=mentions("peft.rank")):
        make_task(weights, peft={"method": "lora", "rank": 0})
    with pytest.raises(RequestError, match=mentions("loss.name", "logit_adjustment")):
        make_task(weights, loss="logits")
    with pytest.raises(RequestError, match=mentions("binary", "multiclass")):
        make_task(weights, loss="ldam", task="binary")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_the_head(method, weights):
    task = make_task(weights, peft=method)
    assert task.model.method.name == method and task.model.vit.head.weight.requires_grad
    task(torch.randn(2, 1, SIZE, SIZE)).square().sum().backward()
    assert task.model.vit.head.weight.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "resnet18"])
def test_networks_with_other_heads(model):
    for peft in ({"method": "lora", "positions": "all"}, "full"):
        task = PEFTClassificationTask(model, None, 2, num_classes=4, peft=peft)
        assert task.model.vit.get_classifier().weight.requires_grad
        assert task(torch.randn(2, 2, 64, 64)).shape == (2, 4)


class Labels(torch.utils.data.Dataset):
    def __init__(self, targets):
        self.targets = targets


def test_losses_of_rsft_and_torchgeo(weights):
    ce = make_task(weights, loss="ce", class_weights=torch.tensor([1.0, 2, 3]))
    assert isinstance(ce.criterion, nn.CrossEntropyLoss) and ce.hparams[
        "class_weights"
    ] == [1, 2, 3]
    task = make_task(weights, loss="balanced_softmax", class_counts=[10, 5, 1])
    logits = torch.randn(4, 3)
    labels = torch.tensor([0, 1, 2, 0])
    expected = nn.functional.cross_entropy(
        logits + torch.tensor([10.0, 5, 1]).log(), labels
    )
    torch.testing.assert_close(task.criterion(logits, labels), expected)
    deferred = make_task(
        weights, loss={"name": "ldam", "drw_start": 0.5}, class_counts=[10, 5, 1]
    )
    loss = deferred.criterion
    assert isinstance(loss, DeferredReweighting)
    deferred._trainer = SimpleNamespace(global_step=6, estimated_stepping_batches=10)
    deferred.on_train_batch_start(None, 0)
    assert deferred.criterion is loss.second


def test_classes_are_counted_in_any_data_module_that_lists_its_labels(weights):
    data = NonGeoDataModule(Labels, 2, 0)
    task = make_task(weights, loss="ldam")
    task._trainer = SimpleNamespace(datamodule=data)
    with pytest.raises(RequestError, match=mentions("class_counts")):
        task.setup("fit")
    data.train_dataset = Labels([0, 2, 2])
    task.setup("fit")
    assert task.hparams["class_counts"] == [1, 0, 2] and task.criterion is not None


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


def test_names_and_arguments_of_later_versions(monkeypatch):
    """TorchGeo 0.9 has the task as `torchgeo.tasks.Classification`, with further
    arguments."""

    class Classification(PEFTClassificationTask.__base__):
        def __init__(
            self,
            model="resnet50",
            weights=None,
            labels=None,
            ignore_index=None,
            **options,
        ):
            super().__init__(model, weights, **options)

    monkeypatch.setitem(
        sys.modules, "torchgeo.tasks", SimpleNamespace(Classification=Classification)
    )
    spec = spec_from_file_location("later_torchgeo", ROOT / "rsft/torchgeo.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    task = module.PEFTClassificationTask(
        "test_vit", num_classes=2, labels=["a", "b"], lr=0.5
    )
    assert (
        isinstance(task, Classification)
        and task.hparams["labels"] == ["a", "b"]
        and task.hparams["lr"] == 0.5
    )
    assert task.hparams["ignore_index"] is None and task.hparams["peft"] == "lora"


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
