"""The PEFT task in TorchGeo's and Lightning's programs."""

import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torchgeo.datamodules import NonGeoDataModule

from rsft.errors import RequestError, WeightsError
from rsft.peft import METHODS, LoRA, attach
from rsft.torchgeo import PEFTClassificationTask, bundle_from_checkpoint
from rsft.training.optim.losses import DeferredReweighting
from tests.helpers.messages import mentions
from tests.helpers.style import ROOT
from tests.torchgeo.tasks import LORA, QUIET, SHORT, SIZE, Labels, chips, fit, make_task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


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


def test_images_of_a_wrong_size_name_the_argument(weights):
    task = PEFTClassificationTask("vit_tiny_patch16_224", num_classes=3)
    hint = mentions("64 pixels", "takes 224", "img_size=64", "size=224")
    with pytest.raises(RequestError, match=hint):
        task(torch.zeros(1, 3, 64, 64))
    for size in (0, 60, 1_600_000):
        with pytest.raises(RequestError, match=r"multiples of 16|too many"):
            make_task(weights, img_size=size)
    network = PEFTClassificationTask(
        "resnet18",
        num_classes=2,
        img_size=60,
        peft={"method": "lora", "positions": "all"},
    )
    assert network(torch.zeros(2, 3, 60, 60)).shape == (2, 2)


def test_predictions_keep_their_bounds(weights):
    task = make_task(weights).eval()
    images = torch.rand(2, 1, SIZE, SIZE)
    with torch.inference_mode():
        plain = task.predict_step({"image": images}, 0)
        placed = task.predict_step({"image": images, "bounds": [1, 2]}, 0)
    assert torch.equal(plain, task(images).softmax(dim=1))
    assert torch.equal(placed["probabilities"], plain)
    assert placed["bounds"] == [1, 2] and placed["transform"] is None


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
    spec = spec_from_file_location("later_torchgeo", ROOT / "rsft/torchgeo/task.py")
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
