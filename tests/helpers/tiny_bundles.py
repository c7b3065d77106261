"""Tiny classifiers with random weights, and copies of bundles."""

from __future__ import annotations

from dataclasses import replace

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.models.classifier import Classifier, CosineHead, HeadAverage
from rsft.peft import Adapter, LoRA, VPTDeep, attach
from rsft.recipe.schema import HeadSection
from tests.helpers.scenes import toy_contract

CONTRACT = toy_contract(size=16)
IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HEADS = {
    "linear": lambda: nn.Linear(24, 3),
    "cosine": lambda: CosineHead(24, 3, 10.0),
    "two depths": lambda: HeadAverage(CosineHead(24, 3, 10.0), {0: CosineHead(24, 3, 10.0)}),
}
METHODS = {"lora": LoRA(rank=2), "adapter": Adapter(dim=2), "prompts": VPTDeep(prompts=2)}


def tiny_classifier(seed: int = 0, method: str = "lora", head: str = "linear") -> Classifier:
    """Return a merged classifier of two blocks and three classes.

    Args:
        seed: seed of the PEFT modules and the head; the frozen weights are always the same.
        method: key of `METHODS`.
        head: key of `HEADS`.
    """
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, METHODS[method], learn_scales=method != "prompts")
    torch.manual_seed(seed)
    for parameter in [*adapted.theta, *adapted.gamma]:
        nn.init.normal_(parameter, std=0.3)
    classifier = Classifier(adapted, HEADS[head](), "token").eval()
    adapted.merge()
    return classifier


def copy_with_early_head(bundle, block=4):
    """Return a bundle with a second head of other weights on an earlier block."""
    tensors = dict(bundle.tensors)
    weight = tensors.pop("head.weight")
    early = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    tensors |= {"head.final.weight": weight, f"head.blocks.{block}.weight": early}
    head = HeadSection(earlier_blocks=[block])
    return replace(bundle, recipe=bundle.recipe.model_copy(update={"head": head}), tensors=tensors)


def perturbed_copy(bundle):
    """Return a bundle with slightly different tensors, like one of another run of the recipe."""
    return replace(bundle, tensors={key: 1.01 * tensor for key, tensor in bundle.tensors.items()})
