"""Which recipes the authors' code can train, and its settings for them."""

import pytest

from rsft.plugins.sweeps.paper.authors.config import adapt_recipe, authors_task
from rsft.recipe.load import load_recipe

PLAIN = (
    "train.sampler=natural",
    "train.optimizer=sgd",
    "train.warmup_epochs=0",
    "train.max_grad_norm=null",
    "train.decay_all=true",
    "train.schedule=constant",
    "head.kind=cosine",
    "head.init=class-mean",
    "loss.name=logit_adjustment",
    "backbone.pool=token",
)
ADAPTER = ("peft.method=adapter", "peft.dim=8", "peft.blocks=1-2")
LORA = ("peft.method=lora", "peft.init=rank", "peft.rank=4", "peft.positions=qv")
META = ("meta.schedule=metalora", "meta.outer_every=3", "meta.ratio=0.25")
FEATURE = ("peft.modulator=feature", "meta.init_scale=1")


@pytest.fixture
def task(recipe_file, tmp_path):
    """The task of the recipe with some keys, for a network of 12 blocks."""

    def make(*keys):
        recipe = adapt_recipe(load_recipe(recipe_file, [*PLAIN, *keys]))
        return authors_task(recipe, 12, tmp_path / "task.yaml")

    return make


def test_low_rank_factors(task, tmp_path):
    made = task("meta=null", *LORA, "peft.alpha=2", "train.epochs=4")
    assert made.recipe == str(tmp_path / "task.yaml")
    config = made.config
    assert (config["lora"], config["adapter_dim"], config["scale_alpha"]) == (
        True,
        4,
        2,
    )
    assert config["partial"] == [0, 12] and config["num_epochs"] == 4
    assert made.tensors["v.b"] == "tuner.lora_list.*.v.lora_B"
    assert "use_meta" not in config and "v.alpha" not in made.tensors


def test_an_outer_loop_learns_the_scales(task):
    made = task(*LORA, *META, "meta.init_scale=0.5", "train.epochs=4")
    config = made.config
    assert config["use_meta"] and config["meta_inner_steps"] == 3
    assert (config["scale_alpha"], config["num_epochs"]) == (2.0, 3)
    assert made.tensors["q.alpha"] == "tuner.lora_list.*.q.meta_alpha"


def test_bottlenecks_have_scales_of_features_that_start_at_1(task):
    made = task(*ADAPTER, *META, *FEATURE)
    assert made.tensors["mlp.alpha"] == "tuner.adapter_list.*.meta_scale"
    assert made.config["partial"] == [1, 3]
    assert task(*ADAPTER, *META, *FEATURE, "meta.init_scale=2") is None
    assert task(*ADAPTER, *META, "peft.modulator=site", "meta.init_scale=1") is None


@pytest.mark.parametrize(
    "keys",
    [
        ("train.optimizer=adamw",),
        ("head.kind=linear", "head.init=random"),
        ("data.augment=none",),
        ("peft.dropout=0.1",),
        ("peft.init=width",),
        ("peft.blocks=[0, 2]",),
    ],
)
def test_other_settings_are_no_task(task, keys):
    assert task("meta=null", *LORA) is not None
    assert task("meta=null", *LORA, *keys) is None


def test_a_method_that_the_authors_code_lacks(task):
    assert task("meta=null", "peft.method=ssf") is None
