"""Tiny classifiers with random weights, and copies of bundles."""

from __future__ import annotations

from dataclasses import replace

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, CosineHead, HeadAverage
from rsft.models.loading import build_classifier, load_encoder
from rsft.peft import Adapter, LoRA, VPTDeep, attach
from rsft.recipe.schema import HeadSection, Recipe
from tests.helpers.scenes import toy_contract

CONTRACT = toy_contract(size=16)
IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
GRAPH_METADATA = {"classes": ["a", "b", "ç"], "precision": "fp32"}
"""Metadata of the files of the fixture `tiny_graph`."""
HEADS = {
    "linear": lambda: nn.Linear(24, 3),
    "cosine": lambda: CosineHead(24, 3, 10.0),
    "two depths": lambda: HeadAverage(
        CosineHead(24, 3, 10.0), {0: CosineHead(24, 3, 10.0)}
    ),
}
METHODS = {
    "lora": LoRA(rank=2),
    "adapter": Adapter(dim=2),
    "prompts": VPTDeep(prompts=2),
}


def tiny_classifier(
    seed: int = 0, method: str = "lora", head: str = "linear"
) -> Classifier:
    """Return a merged classifier of two blocks and three classes.

    Args:
        seed: seed of the PEFT modules and the head; the frozen weights are always the
            same.
        method: key of `METHODS`.
        head: key of `HEADS`.
    """
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
    adapted = attach(vit, METHODS[method], learn_scales=method != "prompts")
    torch.manual_seed(seed)
    for parameter in [*adapted.theta, *adapted.gamma]:
        nn.init.normal_(parameter, std=0.3)
    classifier = Classifier(adapted, HEADS[head](), "token").eval()
    adapted.merge()
    return classifier


def copy_with_early_head(bundle):
    """Return a bundle with a second head of other weights on the first block."""
    tensors = dict(bundle.tensors)
    weight = tensors.pop("head.weight")
    early = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    tensors |= {"head.final.weight": weight, "head.blocks.0.weight": early}
    head = HeadSection(earlier_blocks=[0])
    return replace(
        bundle, recipe=bundle.recipe.model_copy(update={"head": head}), tensors=tensors
    )


def perturbed_copy(bundle):
    """Return a bundle with slightly different tensors, like one of another run of the
    recipe."""
    return replace(
        bundle, tensors={key: 1.01 * tensor for key, tensor in bundle.tensors.items()}
    )


def timm_bundle(
    folder, name="vit_tiny_patch16_224", size=32, network=None, **sections
) -> Bundle:
    """Return a bundle on a network of timm with random weights, which are written to
    `folder`.

    Args:
        folder: folder of the weights file.
        name: architecture of timm.
        size: side of the network's input in pixels.
        network: the network (default: a new one, a vision transformer of two blocks).
        **sections: changed keys of sections of the recipe, such as `peft={"rank": 2}`;
            None leaves a key out.
    """
    torch.manual_seed(0)
    depth = {"depth": 2} if "vit" in name else {}
    network = network or timm.create_model(name, num_classes=0, **depth)
    weights = folder / f"{name}.safetensors"
    save_file(network.state_dict(), weights)
    content = {
        "data": {"root": "chips", "size": size, "bands": ["HH"]},
        "backbone": {
            "name": f"timm:{name}",
            "weights": str(weights),
            **({"blocks": 2} if depth else {"pool": "avg"}),
        },
        "peft": {"method": "lora", "rank": 2},
        "head": {"kind": "linear"},
        "train": {"epochs": 1},
    }
    for section, keys in sections.items():
        merged = content.get(section, {}) | keys
        content[section] = {
            key: value for key, value in merged.items() if value is not None
        }
    recipe = Recipe.model_validate({"name": "tiny", **content})
    encoder = load_encoder(recipe, ("HH",))
    classifier = build_classifier(encoder, 3, recipe)
    for parameter in classifier.theta:
        nn.init.normal_(parameter, std=0.1)
    values = {
        "size": size,
        "planes": encoder.bands,
        "mean": encoder.mean,
        "std": encoder.std,
    }
    return Bundle(
        recipe=recipe,
        classes=("barge", "ferry", "tug"),
        groups={"tail": ("tug",)},
        train_counts=(3, 2, 1),
        contract=toy_contract(**values),
        backbone_sha256=encoder.sha256,
        tensors=classifier.learned_state(),
    )
