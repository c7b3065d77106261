"""A trained bundle of a small vision transformer as one of a ViT-B/16 that answers the same.

    python -m tools.maintenance.widen_bundle runs/rsscn7_lt_focus_metalora/001 -o PLACE [--noise 0.05]
    RSFT_WEIGHTS=PLACE rsft export PLACE/bundle --format openvino --precision int8 --data data/rsscn7_lt

For measurements on a ViT-B/16 that has learned something, where no weights of one are at hand. Every width is doubled,
both halves of a token hold the small network's, and a weight becomes four halves of itself: those of a row differ by
noise that cancels (Chen et al., Net2Net, ICLR 2016). Blocks that are missing add nothing. The bundle's LoRA is merged
into the weights, a new one at zero takes its place. Patches of 14 pixels are resampled to 16, so a chip of the same
number of tokens is larger: that is the one thing that changes answers. Results are to be reported as what they are: no
ViT-B/16 was trained.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import timm
import torch
import typer
from safetensors.torch import save_file
from timm.layers.patch_embed import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import build_classifier, load_encoder, load_merged_classifier
from rsft.utils.atomic_files import atomic_file

NAME = "vit_base_patch16_224.augreg_in21k"
PATCH, WIDTH, DEPTH = 16, 768, 12


def main(
    bundle: Annotated[Path, typer.Argument(help="Of one run, with a method that can be merged.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the weights and the bundle.")],
    noise: Annotated[float, typer.Option(help="Of the halves, in standard deviations of the weight.")] = 0.05,
) -> None:
    """Write both."""
    small = Bundle.load(bundle)
    classifier = load_merged_classifier(small, 0)
    if classifier.adapted.unmerged or len(small.members) > 1:
        raise RequestError(f"several runs, or {small.recipe.peft.method}", bundle, "name one run of LoRA")
    vit = cast(VisionTransformer, classifier.adapted.vit)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / f"{NAME}.safetensors") as temporary:
        save_file(widened(vit, noise), temporary)

    contract = small.contract.model_copy(update={"size": vit.patch_embed.grid_size[0] * PATCH})
    recipe = small.recipe.model_copy(
        update={
            "backbone": small.recipe.backbone.model_copy(update={"name": NAME}),
            "data": small.recipe.data.model_copy(update={"size": contract.size}),
        }
    )
    os.environ["RSFT_WEIGHTS"] = str(out)
    encoder = load_encoder(recipe, contract.bands)
    state = build_classifier(recipe, len(small.classes), encoder).learned_state()
    head = {key: value for key, value in small.tensors.items() if key.startswith("head.")}
    halves = 1 if small.recipe.head.kind == "cosine" else 2  # a cosine does not ask for the length
    state |= head | {"head.weight": _twice(head["head.weight"]) / halves}
    made = replace(
        small, recipe=recipe, contract=contract, backbone_sha256=encoder.sha256, tensors=state, calibrator=None
    )
    made.save(out / "bundle")
    print(f"RSFT_WEIGHTS={out} rsft export {out / 'bundle'} ...")


def widened(small: VisionTransformer, noise: float) -> dict[str, Tensor]:
    """The state of a ViT-B/16 that computes what `small` does, twice beside each other.

    Raises:
        RequestError: `small` is not half as wide, or deeper.
    """
    tokens = small.patch_embed.grid_size
    big = timm.create_model(NAME, pretrained=False, num_classes=0, img_size=[PATCH * side for side in tokens])
    depth = len(cast(Sequence[object], small.blocks))
    if (small.embed_dim, small.num_prefix_tokens) != (WIDTH // 2, 1) or depth > DEPTH:
        raise RequestError(f"a network {small.embed_dim} wide, {depth} deep", NAME, "name a ViT-S")
    state, made = small.state_dict(), big.state_dict()
    for key in made:
        if key == "patch_embed.proj.weight":
            made[key] = _twice(resample_patch_embed(state[key], [PATCH, PATCH]), 0)
        elif key not in state:
            if key.split(".")[-2] in ("proj", "fc2"):  # of a block that the small one lacks
                made[key].zero_()
        elif state[key].ndim == 2 and key.endswith("weight"):
            scale = _layer_scale(state, key)
            parts = (state[key] * scale[:, None]).chunk(3 if ".qkv." in key else 1)
            made[key] = torch.cat([_split(part, noise) for part in parts])
        else:
            parts = (state[key] * _layer_scale(state, key)).chunk(3 if ".qkv." in key else 1, -1)
            made[key] = torch.cat([_twice(part) for part in parts], -1)
    return {key: value.contiguous() for key, value in made.items()}


def _twice(value: Tensor, dim: int = -1) -> Tensor:
    return torch.cat([value, value], dim)


def _split(weight: Tensor, noise: float) -> Tensor:
    """(O, I) -> (2 O, 2 I), the same for inputs that are there twice."""
    rows = []
    for _ in range(2):
        off = noise * weight.std() * torch.randn_like(weight)
        rows.append(torch.cat([weight / 2 + off, weight / 2 - off], 1))
    return torch.cat(rows)


def _layer_scale(state: dict[str, Tensor], key: str) -> Tensor:
    """What the output of a layer is multiplied by in the small network, which the large one has no module for."""
    gamma = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}
    parts = key.split(".")
    name = gamma.get(".".join(parts[2:4]), "")
    return state.get(".".join([*parts[:2], name]), torch.ones(()).expand(len(state[key])))


if __name__ == "__main__":
    typer.run(main)
