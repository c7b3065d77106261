"""The estimate of a run agrees with what a network of known size computes, and grows
with what the recipe says."""

import pytest

from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.cost import (
    NetworkCost,
    count_disk,
    count_memory,
    count_network,
    count_operations,
)

CHIPS = {"train": 100, "val": 10, "test": 20}


def recipe(name="mstar_lt_metalora", *overrides):
    return load_recipe(
        find_recipe(name), ["train.precision=fp32", "train.ensemble_size=1", *overrides]
    )


@pytest.mark.slow
def test_the_count_of_a_network():
    plain, full = (
        count_network(
            recipe("mstar_lt_metalora", "meta=null", f"peft={{method: {x}}}"), 4
        )
        for x in ("lora", "full")
    )
    tokens = 65
    width = 192
    blocks = 4
    products = 2 * tokens * 12 * width**2 * blocks  # of the linear layers
    attention = 4 * tokens**2 * width * blocks
    assert plain.forward == pytest.approx(products + attention, rel=0.05)
    assert (
        plain.forward
        < plain.step
        < full.step
        == pytest.approx(3 * full.forward, rel=0.05)
    )
    assert full.learned == full.parameters > 20 * plain.learned
    assert plain.saved_bytes > 4 * tokens * width * blocks


NETWORK = NetworkCost(
    parameters=1000, learned=10, forward=2.0, step=5.0, saved_bytes=70
)


def test_operations_of_a_run():
    overrides = ["train.epochs=4", "train.batch_size=10", "evaluate.every=2"]
    expected = 100 * 4 * 5 + (10 * 2 + 130) * 2
    assert (
        count_operations(
            recipe("mstar_lt_metalora", "meta=null", *overrides), NETWORK, CHIPS
        )
        == expected
    )
    meta = ["meta.outer_every=5", "meta.batch_size=10"]
    # four epochs of ten steps, with an outer step of ten chips after five
    outer = 10 * 4 / 5 * 10 * 5
    assert count_operations(
        recipe("mstar_lt_metalora", *overrides, *meta), NETWORK, CHIPS
    ) == pytest.approx(expected + outer)
    three = recipe(
        "mstar_lt_metalora", "meta=null", *overrides, "train.ensemble_size=3"
    )
    assert count_operations(three, NETWORK, CHIPS) == 3 * expected


def test_memory_and_disk():
    assert (
        count_memory(recipe("mstar_lt_metalora", "train.batch_size=8"), NETWORK)
        == 4 * 1000 + 16 * 10 + 8 * 70
    )
    half = recipe("mstar_lt_metalora", "train.batch_size=8", "train.precision=bf16")
    assert count_memory(half, NETWORK) == 6 * 1000 + 16 * 10 + 8 * 70 / 2
    inputs, run = count_disk(
        recipe("mstar_lt_metalora", "data.size=64"), NETWORK, CHIPS, 3
    )
    assert inputs == 130 * 64 * 64 * 3 and run == 10 * 10 * 4
