"""The numbers of trained parameters, from the equations of the methods, and where the
methods add them."""

import pytest
from torch import nn

from rsft.peft import METHODS, Adapter, AdaptFormer, LayerNormTuning, attach
from tests.helpers.peft_models import tiny_vit

WIDTH = 24
BLOCKS = 2
HIDDEN = 4 * WIDTH


def count(name, **settings):
    vit = tiny_vit(depth=BLOCKS)
    adapted = attach(vit, METHODS[name](**settings))
    return sum(parameter.numel() for parameter in adapted.theta)


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("lora", {"rank": 3, "positions": "qv"}, BLOCKS * 2 * 3 * 2 * WIDTH),
        ("lora", {"rank": 1, "positions": "1"}, BLOCKS * (WIDTH + HIDDEN)),
        ("lotr", {"rank": 3, "positions": "qv"}, 2 * (2 * 3 * WIDTH + BLOCKS * 9)),
        ("vpt-shallow", {"prompts": 5}, 5 * WIDTH),
        ("vpt-deep", {"prompts": 5}, BLOCKS * 5 * WIDTH),
        ("linear-probe", {}, 0),
    ],
)
def test_trained_parameters(name, settings, parameters):
    assert count(name, **settings) == parameters


def test_full_tuning_trains_all():
    vit = tiny_vit(depth=BLOCKS)
    assert count("full") == sum(parameter.numel() for parameter in vit.parameters())


def test_layernorm_tuning_trains_norms_alone():
    method = LayerNormTuning()
    assert method.trains(nn.LayerNorm(4), "weight")
    assert not method.trains(nn.Linear(4, 4), "weight")


def test_adapters_follow_the_mlp_and_adaptformer_accompanies_it():
    (adapter,) = Adapter().build_modules(tiny_vit())
    (adaptformer,) = AdaptFormer(scale="learnable").build_modules(tiny_vit())
    assert not adapter.parallel and adaptformer.parallel
    with pytest.raises(ValueError, match="AdaptFormer only"):
        Adapter(scale="learnable").build_modules(tiny_vit())


def test_shallow_prompts_are_those_of_the_first_block():
    (prompts,) = METHODS["vpt-shallow"](prompts=3).build_modules(tiny_vit(depth=2))
    assert (prompts.prompt_blocks, prompts.count) == ((0,), 3)
