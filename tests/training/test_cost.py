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
)

CHIPS = {"train": 100, "val": 10, "test": 20}


def recipe(name="quickstart", *overrides):
    return load_recipe(
        find_recipe(name), ["train.precision=fp32", "train.ensemble_size=1", *overrides]
    )


@pytest.mark.slow
def test_the_count_of_a_network():
    plain, full = (
        count_network(recipe("quickstart", "meta=null", f"peft={{method: {x}}}"), 4)
        for x in ("lora", "full")
    )
    tokens = 65
    width = 192
    blocks = 4
    assert full.learned == full.parameters > 20 * plain.learned
    assert plain.saved_bytes > 4 * tokens * width * blocks


NETWORK = NetworkCost(parameters=1000, learned=10, saved_bytes=70)


def test_memory_and_disk():
    assert (
        count_memory(recipe("quickstart", "train.batch_size=8"), NETWORK)
        == 4 * 1000 + 16 * 10 + 8 * 70
    )
    half = recipe("quickstart", "train.batch_size=8", "train.precision=bf16")
    assert count_memory(half, NETWORK) == 6 * 1000 + 16 * 10 + 8 * 70 / 2
    inputs, run = count_disk(recipe("quickstart", "data.size=64"), NETWORK, CHIPS, 3)
    assert inputs == 130 * 64 * 64 * 3 and run == 10 * 10 * 4
