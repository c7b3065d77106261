import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import DataSection, MetaSection, Recipe, TrainSection
from rsft.training import precision as precision_module
from rsft.training.precision import resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def make_recipe(precision, strategy="auto", **sections):
    train = TrainSection(epochs=1, precision=precision, strategy=strategy)
    return Recipe(name="x", data=DataSection(root="x", size=32), train=train, **sections)


def test_auto_becomes_the_fastest_precision(monkeypatch):
    monkeypatch.setattr(precision_module, "select_precision", lambda device: ("bf16", {"bf16": 1.5}))
    resolved, metadata = resolve_precision(make_recipe("auto"), CPU)
    assert resolved == make_recipe("bf16")
    assert metadata == {"precision": "bf16", "precision_speeds": {"bf16": 1.5}}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_fixed_precision_is_not_measured(monkeypatch, precision):
    monkeypatch.setattr(precision_module, "select_precision", None)
    assert resolve_precision(make_recipe(precision), CPU) == (make_recipe(precision), {"precision": precision})


def test_float16_needs_a_gpu_and_first_order():
    with pytest.raises(RequestError, match="needs a GPU"):
        resolve_precision(make_recipe("fp16"), CPU)
    with pytest.raises(RequestError, match="second-order"):
        resolve_precision(make_recipe("fp16", meta=MetaSection(order=2)), CUDA)
    assert resolve_precision(make_recipe("fp16", meta=MetaSection()), CUDA)[1] == {"precision": "fp16"}


def test_a_second_order_step_needs_weights_that_it_can_cast_to_float32():
    order_2 = MetaSection(order=2)
    with pytest.raises(RequestError, match="sharded weights"):
        resolve_precision(make_recipe("bf16", "fsdp", meta=order_2), CPU)
    for recipe in (make_recipe("bf16", meta=order_2), make_recipe("fp32", "fsdp", meta=order_2)):
        assert resolve_precision(recipe, CPU)[0] == recipe
