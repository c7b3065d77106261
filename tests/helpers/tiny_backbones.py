"""Small encoders under the names that shipped recipes use."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import timm
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones import mae, timm_vits
from rsft.backbones.card import Card, Remote
from tests.helpers import satmae_data

SMALL = satmae_data.SMALL
SATMAE_DEPTH = 13
"""One block more than the recipes for SAR adapt."""


def local_vit(size: int) -> VisionTransformer:
    """Return a ViT with more blocks than the recipes use."""
    return VisionTransformer(
        img_size=size,
        patch_size=14,
        init_values=1.0,
        num_classes=0,
        **{**SMALL, "depth": 9},
    )


SATMAE = mae.CARDS_SATMAE[0]
IN21K = timm_vits.timm_card("vit_base_patch16_224.augreg_in21k")
LOCAL = timm_vits.timm_card("timm:vit_small_patch14_dinov2")
DINOV3 = timm_vits.timm_card("vit_large_patch16_dinov3.sat493m")
assert IN21K is not None and LOCAL is not None and DINOV3 is not None
LOCAL_FILE = Remote("vit_small_patch14_focus_d8.safetensors", None, None, None, "")
CARDS = (
    replace(
        SATMAE,
        build=partial(
            mae.build_mae_vit, SATMAE.name, {**SMALL, "depth": SATMAE_DEPTH}, False
        ),
    ),
    replace(
        IN21K, build=partial(timm_vits.build_timm_vit, IN21K.name, IN21K.patch, **SMALL)
    ),
    replace(LOCAL, build=local_vit, weights=LOCAL_FILE),
    replace(
        DINOV3,
        build=partial(timm_vits.build_timm_vit, DINOV3.name, DINOV3.patch, **SMALL),
    ),
)


def write(card: Card, folder: Path) -> None:
    """Write the weights of a card in their published form: a training checkpoint, a
    classifier, or plain tensors."""
    assert isinstance(card.weights, Remote)
    path = folder / card.weights.file
    if path.suffix == ".pth":
        satmae_data.write(path, satmae_data.pretrained(depth=SATMAE_DEPTH))
    elif card.name in (LOCAL.name, DINOV3.name):
        save_file(card.build(card.size).state_dict(), path)
    else:
        save_file(
            timm.create_model(card.name, num_classes=3, **SMALL).state_dict(), path
        )
