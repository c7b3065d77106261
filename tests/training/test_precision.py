"""The precision of a run: by the instructions of the device, or as the recipe says."""

import pytest
import torch

from rsft.errors import RequestError
from rsft.recipe.schema import DataSection, MetaSection, Recipe, TrainSection
from rsft.training import precision as precision_module
from rsft.training.precision import resolve_precision

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def make_recipe(precision, strategy="auto", **sections):
    train = TrainSection(epochs=1, precision=precision, strategy=strategy)
    return Recipe(
        name="x", data=DataSection(root="x", size=32), train=train, **sections
    )


@pytest.fixture
def instructions(monkeypatch):
    """The precisions that the device has instructions for."""
    names = {"bf16", "fp16"}
    monkeypatch.setattr(
        precision_module, "has_instructions", lambda name, device: name in names
    )
    return names


@pytest.mark.parametrize(
    ("names", "device", "expected"),
    [
        ((), CPU, "fp32"),
        (("bf16",), CPU, "bf16"),
        (("bf16", "fp16"), CUDA, "bf16"),
        (("fp16",), CUDA, "fp16"),
        (("fp16",), CPU, "fp32"),
    ],
)
def test_auto_takes_what_the_device_has_instructions_for(
    instructions, names, device, expected
):
    instructions.intersection_update(names)
    resolved = resolve_precision(make_recipe("auto"), device)
    assert resolved == make_recipe(expected)


def test_auto_leaves_out_what_a_second_order_step_cannot_use(instructions):
    order_2 = {"meta": MetaSection(order=2)}
    for strategy, expected in (("auto", "bf16"), ("fsdp", "fp32")):
        resolved = resolve_precision(make_recipe("auto", strategy, **order_2), CUDA)
        assert resolved == make_recipe(expected, strategy, **order_2)
    instructions.remove("bf16")
    resolved = resolve_precision(make_recipe("auto", **order_2), CUDA)
    assert resolved == make_recipe("fp32", **order_2)


@pytest.fixture
def emulated(instructions, monkeypatch):
    """Return a function that sets the speedup of products without instructions."""
    instructions.clear()

    def set_speedup(speedup):
        monkeypatch.setattr(
            precision_module, "product_speedup", lambda device, dtype: speedup
        )

    return set_speedup


def test_a_slow_precision_is_stated_with_its_factor(emulated, caplog):
    emulated(0.3)
    assert resolve_precision(make_recipe("bf16"), CPU) == make_recipe("bf16")
    assert "bf16: a product takes 3.33 times as long as in float32" in caplog.text
    assert "train.precision=auto" in caplog.text


def test_a_much_slower_precision_is_refused_unless_the_recipe_allows_it(
    emulated, caplog
):
    emulated(0.005)
    recipe = make_recipe("bf16")
    with pytest.raises(RequestError, match="200 times as long") as error:
        resolve_precision(recipe, CPU)
    assert "train.allow_slow_precision=true" in error.value.hint
    train = recipe.train.model_copy(update={"allow_slow_precision": True})
    allowed = recipe.model_copy(update={"train": train})
    assert resolve_precision(allowed, CPU) == allowed
    assert "200 times" in caplog.text


def test_a_precision_with_instructions_is_not_measured(
    instructions, caplog, monkeypatch
):
    monkeypatch.setattr(precision_module, "product_speedup", pytest.fail)
    assert resolve_precision(make_recipe("bf16"), CPU) == make_recipe("bf16")
    assert not caplog.text


def test_float32_is_never_slow(instructions, caplog):
    instructions.clear()
    assert resolve_precision(make_recipe("fp32"), CPU) == make_recipe("fp32")
    assert not caplog.text


def test_float16_needs_a_gpu_and_first_order(instructions):
    with pytest.raises(RequestError, match="needs a GPU"):
        resolve_precision(make_recipe("fp16"), CPU)
    with pytest.raises(RequestError, match="second-order"):
        resolve_precision(make_recipe("fp16", meta=MetaSection(order=2)), CUDA)
    first_order = make_recipe("fp16", meta=MetaSection())
    assert resolve_precision(first_order, CUDA) == first_order


def test_a_second_order_step_needs_weights_that_it_can_cast_to_float32(instructions):
    order_2 = MetaSection(order=2)
    with pytest.raises(RequestError, match="sharded weights"):
        resolve_precision(make_recipe("bf16", "fsdp", meta=order_2), CPU)
    for recipe in (
        make_recipe("bf16", meta=order_2),
        make_recipe("fp32", "fsdp", meta=order_2),
    ):
        assert resolve_precision(recipe, CPU) == recipe
