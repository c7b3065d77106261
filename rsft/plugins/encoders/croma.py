"""CROMA's encoder of Sentinel-1: Fuller et al. 2023, https://arxiv.org/abs/2311.00566.

It is the radar part of https://github.com/antofuller/CROMA, `s1_encoder` and
`s1_GAP_FFN` of use_croma.py. The files also hold an encoder of Sentinel-2 and one of
both, which are left out. It is a vision transformer without class token and position
embedding. Instead, attention scores fall with the distance of two patches.
`vit.fc_norm` is `s1_GAP_FFN`, so that the mean of the tokens becomes the authors'
`SAR_GAP`.

In pre-training on SSL4EO-S12, the mean of a band in decibels minus two standard
deviations became 0, the mean plus two became 1, and other values were clipped
(README.md of the authors). `mean` and `std` of a card do the same with the statistics
of SSL4EO-S12 without clipping.
"""

import math
import re
from functools import partial
from typing import Any, cast

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.backbones.card import Card, Remote, State, check_input_size, drop_tensors

PATCH = 8
SIZE = 120
BANDS = ("VV", "VH")
LIMITS = ((-23.11, -2.07), (-32.08, -8.44))
"""Decibels of each band that became 0 and 1: mean -12.59 and -20.26, standard deviation
5.26 and 5.91."""

_RENAMES = (
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.0\.input_norm\.", r"blocks.\1.norm1."),
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.0\.to_qkv\.", r"blocks.\1.attn.qkv."),
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.0\.to_out\.", r"blocks.\1.attn.proj."),
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.1\.input_norm\.", r"blocks.\1.norm2."),
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.1\.net\.0\.", r"blocks.\1.mlp.fc1."),
    (r"^s1_encoder\.transformer\.layers\.(\d+)\.1\.net\.3\.", r"blocks.\1.mlp.fc2."),
    (r"^s1_encoder\.transformer\.norm_out\.", "norm."),
    (r"^s1_encoder\.linear_input\.", "patch_embed.proj."),
    (r"^s1_GAP_FFN\.", "fc_norm."),
)


class DistanceBiasAttention(Attention):
    """Attention whose score of two patches falls with their distance.

    It is `get_2dalibi` of use_croma.py. Head h of H subtracts 2^(-8 (h + 1) / H) per
    patch of distance. This is no learned weight.

    Attributes:
        distances: distance of each two patches, (N, N).
    """

    distances: Tensor

    def set_grid(self, side: int) -> None:
        """Compute the distances in a grid of `side` x `side` patches."""
        self.register_buffer(
            "distances", torch.empty(side**2, side**2), persistent=False
        )
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Compute the distances.

        timm's networks compute the buffers that no checkpoint contains in this method.
        """
        side = math.isqrt(len(self.distances))
        axis = torch.arange(side, device=self.distances.device)
        points = torch.cartesian_prod(axis, axis).float()
        self.distances.copy_((points[:, None] - points).square().sum(-1).sqrt())

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return the attention output (B, N, D) of tokens (B, N, D).

        timm's other arguments keep their defaults.
        """
        assert attn_mask is None and not is_causal
        # prompts come before the patches, and have no position
        prompts = x.shape[1] - len(self.distances)
        distances = F.pad(self.distances, (prompts, 0, prompts, 0))
        heads = torch.arange(1, self.num_heads + 1, device=x.device)
        slopes = 2.0 ** (-8 * heads / self.num_heads)
        bias = -slopes[:, None, None] * distances
        return super().forward(x, attn_mask=bias.to(x.dtype))


def build_croma_vit(name: str, size: int, **architecture: Any) -> VisionTransformer:
    """Build the encoder with random weights.

    It maps images (B, 2, size, size) to tokens (B, (size / 8)^2, D).

    Args:
        name: name of the encoder, for messages.
        size: side of the input, in pixels.
        **architecture: width, depth and heads.

    Returns:
        A ViT without class token.

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(name, PATCH, size)
    norm = partial(nn.LayerNorm, eps=1e-5)
    vit = VisionTransformer(
        img_size=size,
        patch_size=PATCH,
        in_chans=len(BANDS),
        num_classes=0,
        class_token=False,
        pos_embed="none",
        global_pool="avg",
        fc_norm=False,
        qkv_bias=False,
        norm_layer=norm,
        attn_layer=DistanceBiasAttention,
        **architecture,
    )
    for block in vit.blocks:
        cast(DistanceBiasAttention, block.attn).set_grid(size // PATCH)
    width = vit.embed_dim
    vit.fc_norm = nn.Sequential(
        norm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
    )
    return vit


def convert_croma(state: State) -> State:
    """Return the tensors of the encoder of Sentinel-1 with timm's names.

    Returns:
        Name -> tensor, without copies. Unknown tensors keep their names, so that the
        loader refuses them.
    """
    converted = {}
    radar = drop_tensors(state, "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    for name, tensor in radar.items():
        for pattern, text in _RENAMES:
            name = re.sub(pattern, text, name)
        if name == "patch_embed.proj.weight" and tensor.ndim == 2:
            # of flat patches, band by band
            tensor = tensor.reshape(-1, len(BANDS), PATCH, PATCH)
        converted[name] = tensor
    return converted


def _card(kind: str, commit: str, digits: str, architecture: dict[str, int]) -> Card:
    name = f"croma_vit_{kind}_patch8_120.sentinel1"
    page = "https://huggingface.co/torchgeo/croma"
    file = f"CROMA_{kind}-{digits}.pt"
    return Card(
        name=name,
        about=(
            f"CROMA ViT-{kind[0].upper()}/8 of Sentinel-1, pre-trained on SSL4EO-S12"
            " with pairs of Sentinel-2"
        ),
        size=SIZE,
        patch=PATCH,
        bands=BANDS,
        unit="db",
        mean=tuple(low for low, _ in LIMITS),
        std=tuple(high - low for low, high in LIMITS),
        license="CC-BY-4.0",  # docs/api/weights/agnostic.csv of TorchGeo
        weights=Remote(
            file, f"{page}/resolve/{commit}/{file}", sha256=digits, page=page
        ),
        build=partial(build_croma_vit, name, **architecture),
        convert=convert_croma,
        sensor="Sentinel-1",
    )


# half of the blocks of the encoder of Sentinel-2
_BASE = {"embed_dim": 768, "depth": 6, "num_heads": 16}
_LARGE = {"embed_dim": 1024, "depth": 12, "num_heads": 16}

CARDS = (
    _card("base", "387883f08af79d777167519c57cd826eda89a16f", "0238d814", _BASE),
    _card("large", "92cb1a0f4e34c6c01558baf070197c01255382f6", "921e69ad", _LARGE),
)
"""Both encoders, with the addresses of TorchGeo's enums. The names of the files have 8
digits of their SHA-256."""
