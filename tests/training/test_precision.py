import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from rsft.errors import RequestError
from rsft.recipe.schema import Data, Meta, Recipe, Train
from rsft.training import precision as half
from rsft.training.precision import loss_scalers, settle_precision, trainer_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def recipe(precision, **sections):
    return Recipe(name="x", data=Data(root="x", size=32), train=Train(epochs=1, precision=precision), **sections)


def test_auto_becomes_what_was_measured(monkeypatch):
    monkeypatch.setattr(half, "choose_precision", lambda device: ("bf16", {"bf16": 1.5}))
    settled, facts = settle_precision(recipe("auto"), CPU)
    assert settled == recipe("bf16")
    assert facts == {"precision": "bf16", "precision_speeds": {"bf16": 1.5}}


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_choice_is_not_measured(monkeypatch, precision):
    monkeypatch.setattr(half, "choose_precision", None)
    assert settle_precision(recipe(precision), CPU) == (recipe(precision), {"precision": precision})


def test_float16_needs_a_gpu_and_first_order():
    with pytest.raises(RequestError, match="needs a GPU"):
        settle_precision(recipe("fp16"), CPU)
    with pytest.raises(RequestError, match="second-order"):
        settle_precision(recipe("fp16", meta=Meta(order=2)), CUDA)
    assert settle_precision(recipe("fp16", meta=Meta()), CUDA)[1] == {"precision": "fp16"}


def test_lightning_scales_nothing_itself():
    (plugin,) = trainer_precision("fp16", "cpu")["plugins"]
    assert isinstance(plugin, MixedPrecision) and plugin.scaler is None
    assert plugin.autocast_context_manager().fast_dtype == torch.float16
    assert [trainer_precision(name, "cpu")["precision"] for name in ("32", "bf16")] == ["32-true", "bf16-mixed"]


def test_scalers_are_on_for_float16_alone():
    for precision, on in (("32", False), ("bf16", False), ("fp16", True)):
        assert [scaler.is_enabled() for scaler in loss_scalers(precision, "cpu")] == [on, on]
