import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from rsft.errors import RequestError
from rsft.recipe.schema import DataSection, MetaSection, Recipe, TrainSection
from rsft.training import precision as half
from rsft.training.precision import make_loss_scalers, resolve_precision, trainer_precision_options

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def recipe(precision, **sections):
    return Recipe(
        name="x", data=DataSection(root="x", size=32), train=TrainSection(epochs=1, precision=precision), **sections
    )


def test_auto_becomes_what_was_measured(monkeypatch):
    monkeypatch.setattr(half, "select_precision", lambda device: ("bf16", {"bf16": 1.5}))
    settled, facts = resolve_precision(recipe("auto"), CPU)
    assert settled == recipe("bf16")
    assert facts == {"precision": "bf16", "precision_speeds": {"bf16": 1.5}}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_choice_is_not_measured(monkeypatch, precision):
    monkeypatch.setattr(half, "select_precision", None)
    assert resolve_precision(recipe(precision), CPU) == (recipe(precision), {"precision": precision})


def test_float16_needs_a_gpu_and_first_order():
    with pytest.raises(RequestError, match="needs a GPU"):
        resolve_precision(recipe("fp16"), CPU)
    with pytest.raises(RequestError, match="second-order"):
        resolve_precision(recipe("fp16", meta=MetaSection(order=2)), CUDA)
    assert resolve_precision(recipe("fp16", meta=MetaSection()), CUDA)[1] == {"precision": "fp16"}


def test_lightning_scales_nothing_itself():
    (plugin,) = trainer_precision_options("fp16", "cpu")["plugins"]
    assert isinstance(plugin, MixedPrecision) and plugin.scaler is None
    assert plugin.autocast_context_manager().fast_dtype == torch.float16
    assert [trainer_precision_options(name, "cpu")["precision"] for name in ("fp32", "bf16")] == [
        "32-true",
        "bf16-mixed",
    ]


def test_scalers_are_on_for_float16_alone():
    for precision, on in (("fp32", False), ("bf16", False), ("fp16", True)):
        assert [scaler.is_enabled() for scaler in make_loss_scalers(precision, "cpu")] == [on, on]
