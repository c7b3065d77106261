"""The start of LoRA against the code of LIFT and of the paper, and against Hugging Face
PEFT."""

import math

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import nn

from rsft.errors import RecipeError
from rsft.peft import AdaptFormer, LoRA, LoTR, Site, attach
from rsft.recipe.load import load_recipe
from tests.helpers.messages import mentions

WIDTH = 192


def build(method):
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=WIDTH, depth=2, num_heads=3, num_classes=0
    )
    torch.manual_seed(0)
    return attach(vit, method).adapter_modules[0]


def start_of_a(**settings):
    """A (r, width) of the first site, q of block 0."""
    return build(LoRA(positions="q", **settings)).factors(Site(0, "q"))[0].detach()


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_rank_equals_the_authors_start(rank):
    """LIFT and metalora, models/peft_modules.py: lora_A (in_dim, r),
    kaiming_uniform_(lora_A, a=sqrt(5))."""
    torch.manual_seed(0)
    authors = nn.init.kaiming_uniform_(torch.zeros(WIDTH, rank), a=math.sqrt(5))
    ours = start_of_a(rank=rank, init="rank")
    assert ours.abs().max() <= 1 / math.sqrt(rank)
    assert ours.std().item() == pytest.approx(float(authors.std()), rel=0.06)
    assert ours.std().item() == pytest.approx(1 / math.sqrt(3 * rank), rel=0.06)


@pytest.mark.parametrize("rank", [4, 8])
def test_width_equals_hugging_face(rank):
    """Hugging Face PEFT, tuners/lora/layer.py: lora_A = nn.Linear(in, r),
    kaiming_uniform_(weight, a=sqrt(5))."""
    torch.manual_seed(0)
    expected = nn.init.kaiming_uniform_(torch.zeros(rank, WIDTH), a=math.sqrt(5))
    assert torch.equal(start_of_a(rank=rank), expected)


def test_lotr_shares_the_start():
    shared = build(LoTR(rank=4, positions="q", init="rank")).factors(Site(1, "q"))[0]
    assert shared.std().item() == pytest.approx(1 / math.sqrt(3 * 4), rel=0.06)


def test_alpha_is_divided_by_the_rank_of_the_site():
    method = LoRA(rank={"blocks.0.*": 8, "*": 4}, positions="qv", alpha=2.0)
    scales = {
        Site(0, "q"): 0.25,
        Site(0, "v"): 0.25,
        Site(1, "q"): 0.5,
        Site(1, "v"): 0.5,
    }
    assert build(method).fixed_scales == scales


def test_a_recipe_has_alpha_or_scale(recipe_file):
    method = load_recipe(recipe_file, ["peft={alpha: 4, init: rank}"]).peft.build()
    assert (method.alpha, method.init) == (4.0, "rank")
    with pytest.raises(RecipeError, match=mentions("alpha / r")):
        load_recipe(recipe_file, ["peft={alpha: 4, scale: 2}"])


def test_a_parallel_adapter_needs_a_norm_before_the_mlp():
    vit = VisionTransformer(
        img_size=16, embed_dim=24, depth=1, num_heads=2, block_fn=ResPostBlock
    )
    with pytest.raises(ValueError, match="no norm2 before its MLP"):
        attach(vit, AdaptFormer())
