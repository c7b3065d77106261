"""Prithvi-EO-2.0 for one date: Szwarcman et al. 2024, https://arxiv.org/abs/2412.02732.

It was pre-trained on series of four dates of Harmonized Landsat Sentinel-2 with pixels
of 30 m. For one date, its patch embedding of cubes (time, rows, columns) = (1, p, p) is
a convolution, its position embedding that of the first date, and the encoder a plain
vision transformer. Names are those of TerraTorch, whose models/backbones/prithvi_mae.py
is the authors' code. Encoders with `_tl` were also trained with date and place, which
were left out at random; rsft leaves them out.
"""

from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones.card import Card, Remote, State, check_input_size, drop_tensors
from rsft.backbones.mae import LARGE
from rsft.types import JsonObject

SIZE = 224
HUGE: JsonObject = {"embed_dim": 1280, "depth": 32, "num_heads": 16}
STATISTICS = {  # of reflectance times 10,000, from prithvi_vit.py of TerraTorch
    "B02": (1087.0, 2248.0),
    "B03": (1342.0, 2179.0),
    "B04": (1433.0, 2178.0),
    "B8A": (2734.0, 1850.0),
    "B11": (1958.0, 1242.0),
    "B12": (1363.0, 1049.0),
}


def build_prithvi_vit(
    name: str, architecture: JsonObject, patch: int, size: int
) -> VisionTransformer:
    """Build an encoder with random weights.

    It maps images (B, 6, size, size) to tokens (B, 1 + (size / patch)^2, D).

    Args:
        name: name of the encoder, for messages.
        architecture: width, depth and heads.
        patch: side of a patch, in pixels.
        size: side of the input, in pixels.

    Returns:
        A plain ViT.

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(name, patch, size)
    return VisionTransformer(
        img_size=size,
        patch_size=patch,
        in_chans=len(STATISTICS),
        num_classes=0,
        global_pool="token",
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        **architecture,
    )


def convert_prithvi(state: State, patch: int) -> State:
    """Return the tensors of the encoder for one date, without copies.

    Args:
        state: a checkpoint of the masked autoencoder, of its encoder, or one that this
            function has converted.
        patch: side of a patch, in pixels.

    Returns:
        Name -> tensor. Unknown tensors keep their names, so that the loader refuses
        them.
    """
    tensors = drop_tensors(state, "decoder")
    tensors = {name.removeprefix("encoder."): x for name, x in tensors.items()}
    tensors = drop_tensors(tensors, "temporal_embed_enc", "location_embed_enc")
    weight = tensors.get("patch_embed.proj.weight")
    positions = tensors.get("pos_embed")
    if weight is not None and weight.ndim == 5 and weight.shape[2] == 1:
        tensors["patch_embed.proj.weight"] = weight[:, :, 0]
    if positions is not None and positions.ndim == 3:
        # the class token, then the patches date by date
        tensors["pos_embed"] = positions[:, : 1 + (SIZE // patch) ** 2]
    return tensors


def _card(
    kind: str, architecture: JsonObject, patch: int, commit: str = "main"
) -> Card:
    name = f"prithvi_eo_v2_{kind}"
    page = "https://huggingface.co/ibm-nasa-geospatial/Prithvi-EO-2.0-"
    model = kind.upper().replace("00", "00M").replace("_", "-")  # 300M-TL for 300_tl
    file = f"Prithvi_EO_V2_{model.replace('-', '_')}.pt"
    page = f"{page}{model}"
    means, deviations = zip(*STATISTICS.values(), strict=True)
    return Card(
        name=name,
        about=(
            f"Prithvi-EO-2.0-{model} for one date, pre-trained on Harmonized Landsat"
            " Sentinel-2, 30 m"
        ),
        size=SIZE,
        patch=patch,
        bands=tuple(STATISTICS),
        unit="uint16",
        mean=means,
        std=deviations,
        license="Apache-2.0",  # of the repositories on Hugging Face
        weights=Remote(file, f"{page}/resolve/{commit}/{file}", page=page),
        build=partial(build_prithvi_vit, name, architecture, patch),
        convert=partial(convert_prithvi, patch=patch),
        antialias=False,
        sensor="Sentinel-2, Landsat",
    )


CARDS = (
    _card("300", LARGE, 16, "2d8c9165f59bd0fd050f9904c4f9fbb80b12388e"),
    _card("300_tl", LARGE, 16, "f4421c96e39878a44daedec68056c64985308d01"),
    _card("600", HUGE, 14),
    _card("600_tl", HUGE, 14),
)
"""All encoders of this module. No checksum is published."""
