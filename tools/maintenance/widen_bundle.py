"""Convert a trained bundle of a ViT-S into a bundle of a ViT-B/16 that computes the same function.

    python -m tools.maintenance.widen_bundle runs/rsscn7_lt_focus_metalora/001 -o FOLDER
    [--noise 0.05] RSFT_WEIGHTS=FOLDER rsft export FOLDER/bundle --format openvino
    --precision int8 --data data/rsscn7_lt

Use it to measure engines on a ViT-B/16 that classifies real chips when no trained
ViT-B/16 is available. Every width doubles (Net2Net, Chen et al., ICLR 2016): both
halves of a token equal the token of the ViT-S, and each weight matrix becomes four
halved copies, with noise that cancels between the two copies in a row. Additional
blocks add zero. LoRA is merged into the weights, and new LoRA modules start at zero.
Patches of 14 pixels are resampled to 16 pixels, so the chips are larger with the same
number of tokens; only this changes predictions. When you report results, say that no
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
from rsft.models.loading import build_classifier, load_encoder, load_merged_classifier
from rsft.utils.atomic_files import atomic_file
from tools.errors import explained_errors

NAME = "vit_base_patch16_224.augreg_in21k"
PATCH = 16
WIDTH = 768
DEPTH = 12


def main(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="Run or bundle of a single run with a method that can be merged."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the weights and the bundle.")
    ],
    noise: Annotated[
        float, typer.Option(help="Noise in standard deviations of each weight matrix.")
    ] = 0.05,
) -> None:
    """Convert a trained bundle of a ViT-S into a bundle of a ViT-B/16 that computes the same function.

    Raises:
        RequestError: the bundle has several members, or a method that cannot be merged.
    """
    small = Bundle.load(bundle)
    classifier = load_merged_classifier(small, 0)
    if classifier.adapted.unmerged or len(small.members) > 1:
        raise RequestError(
            (
                f"a bundle of several runs, or of the method"
                f" {small.recipe.peft.method},"
                " cannot be converted"
            ),
            bundle,
            "name a single run of LoRA",
        )
    vit = cast(VisionTransformer, classifier.adapted.vit)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / f"{NAME}.safetensors") as temporary:
        save_file(widen_state(vit, noise), temporary)

    contract = small.contract.model_copy(
        update={"size": vit.patch_embed.grid_size[0] * PATCH}
    )
    recipe = small.recipe.model_copy(
        update={
            "backbone": small.recipe.backbone.model_copy(update={"name": NAME}),
            "data": small.recipe.data.model_copy(update={"size": contract.size}),
        }
    )
    os.environ["RSFT_WEIGHTS"] = str(out)
    encoder = load_encoder(recipe, contract.bands)
    state = build_classifier(encoder, len(small.classes), recipe).learned_state()
    head = {
        key: value for key, value in small.tensors.items() if key.startswith("head.")
    }
    # a cosine head ignores the length of the feature
    divisor = 1 if small.recipe.head.kind == "cosine" else 2
    state |= head | {"head.weight": _twice(head["head.weight"]) / divisor}
    large = replace(
        small,
        recipe=recipe,
        contract=contract,
        backbone_sha256=encoder.sha256,
        tensors=state,
        calibrator=None,
    )
    large.save(out / "bundle")
    print(f"RSFT_WEIGHTS={out} rsft export {out / 'bundle'} ...")


def widen_state(small: VisionTransformer, noise: float) -> dict[str, Tensor]:
    """Return the state of a ViT-B/16 whose tokens are two copies of the tokens of a ViT-S.

    Args:
        small: a ViT-S of at most 12 blocks.
        noise: noise in standard deviations of each weight matrix.

    Returns:
        Tensors by name.

    Raises:
        RequestError: `small` does not have half the width, or has more blocks.
    """
    grid = small.patch_embed.grid_size
    large = timm.create_model(
        NAME, pretrained=False, num_classes=0, img_size=[PATCH * side for side in grid]
    )
    depth = len(cast(Sequence[object], small.blocks))
    if (small.embed_dim, small.num_prefix_tokens) != (WIDTH // 2, 1) or depth > DEPTH:
        raise RequestError(
            f"the network has width {small.embed_dim} and {depth} blocks",
            NAME,
            f"name a ViT-S of width {WIDTH // 2} with at most {DEPTH} blocks",
        )
    state = small.state_dict()
    widened = large.state_dict()
    for key in widened:
        if key == "patch_embed.proj.weight":
            widened[key] = _twice(resample_patch_embed(state[key], [PATCH, PATCH]), 0)
        elif key not in state:
            # output layers of an additional block
            if key.split(".")[-2] in (
                "proj",
                "fc2",
            ):
                widened[key].zero_()
        elif state[key].ndim == 2 and key.endswith("weight"):
            scale = _layer_scale(state, key)
            matrices = (state[key] * scale[:, None]).chunk(3 if ".qkv." in key else 1)
            widened[key] = torch.cat([_split(matrix, noise) for matrix in matrices])
        else:
            vectors = (state[key] * _layer_scale(state, key)).chunk(
                3 if ".qkv." in key else 1, -1
            )
            widened[key] = torch.cat([_twice(vector) for vector in vectors], -1)
    return {key: value.contiguous() for key, value in widened.items()}


def _twice(value: Tensor, dim: int = -1) -> Tensor:
    return torch.cat([value, value], dim)


def _split(weight: Tensor, noise: float) -> Tensor:
    """Return a matrix (2 O, 2 I) that maps two copies of an input to two copies of the output of `weight` (O, I)."""
    rows = []
    for _ in range(2):
        offset = noise * weight.std() * torch.randn_like(weight)
        rows.append(torch.cat([weight / 2 + offset, weight / 2 - offset], 1))
    return torch.cat(rows)


def _layer_scale(state: dict[str, Tensor], key: str) -> Tensor:
    """Return the LayerScale of a layer's output in the ViT-S, or ones.

    A ViT-B/16 has no LayerScale.
    """
    gamma = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}
    parts = key.split(".")
    name = gamma.get(".".join(parts[2:4]), "")
    return state.get(
        ".".join([*parts[:2], name]), torch.ones(()).expand(len(state[key]))
    )


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
