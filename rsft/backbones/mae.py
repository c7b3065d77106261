"""Encoders of masked autoencoders: SatMAE for RGB and for Sentinel-2, and SARMAE.

SatMAE ViT-L/16 was pre-trained on optical satellite images of fMoW RGB: Cong et al.
2022, https://arxiv.org/abs/2207.08051, and https://github.com/sustainlab-group/SatMAE.
The published files contain the network, the optimizer and the arguments of the run.
`fmow_pretrain.pth` is a masked autoencoder: its decoder is left out, and its last norm
applies to every token. `fmow_finetune.pth` was trained on the mean of the patch tokens,
and its last norm follows the mean: its tokens are not normalized, and the published
feature is `vit.fc_norm(tokens[:, 1:].mean(1))`.

SatMAE ViT-L/8 and ViT-B/8 for Sentinel-2 have bands in three groups, each with its own
patches and tokens: section 3.3, and models_vit_group_channels.py of the authors'
repository. In pre-training, a band became (x - mean + 2 std) / (4 std), clipped to 0-1
and rounded to bytes, where x is the top-of-atmosphere reflectance times 10,000. `mean`
and `std` of a card do the same without clipping and rounding; a stretch between
`LIMITS` does all of it. Products since January 2022 (processing baseline 04.00) have an
offset of 1,000, which must be subtracted first.

SARMAE ViT-B/16 and ViT-L/16 were pre-trained on one million radar images (SAR-1M) of
several sensors: Liu et al., CVPR 2026, https://arxiv.org/abs/2512.16635, and
https://github.com/MiliLab/SARMAE. The encoder is timm's plain ViT. Its images are gray,
repeated as three planes, with the mean and standard deviation of ImageNet
(dataset/transforms.py). The training script stores the masked autoencoder as
`sar_encoder`, beside a frozen optical encoder and a projection to its features
(models/mae_contrastive.py), which are left out.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card, Remote, State, check_input_size, drop_tensors

Architecture = dict[str, Any]
"""Arguments of timm's `VisionTransformer`."""

BASE: Architecture = {"embed_dim": 768, "depth": 12, "num_heads": 12}
LARGE: Architecture = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
NORM = partial(nn.LayerNorm, eps=1e-6)
DECODER = (
    "mask_token",
    "decoder_embed",
    "decoder_pos_embed",
    "decoder_blocks",
    "decoder_norm",
    "decoder_pred",
)
"""Modules and tensors of a masked autoencoder that do not belong to its encoder."""

SATMAE_LICENSE = "unknown; the code is CC-BY-NC-4.0"
"""LICENSE and README.md of the authors' repository; neither names the weights."""


def build_mae_vit(
    name: str,
    architecture: Architecture,
    mean_pooled: bool,
    size: int,
    patch: int = 16,
    **options: Any,
) -> VisionTransformer:
    """Build an encoder with random weights.

    Args:
        name: name of the encoder, for messages.
        architecture: width, depth and heads.
        mean_pooled: True if the last norm follows the mean of the patch tokens
            (`vit.fc_norm`) instead of every token.
        size: side of the input, in pixels.
        patch: side of a patch, in pixels.
        **options: for bands in groups, `groups` and `channel_width` of a
            `GroupChannelViT`.

    Returns:
        A ViT that maps (B, bands, size, size) to tokens (B, 1 + G * (size / patch)^2,
        D), with G groups of bands.

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(name, patch, size)
    vit_class = GroupChannelViT if "groups" in options else VisionTransformer
    options |= {
        "patch_size": patch,
        "global_pool": "avg" if mean_pooled else "token",
        "num_classes": 0,
    }
    return vit_class(img_size=size, norm_layer=NORM, **architecture, **options)


def _card(
    name: str,
    about: str,
    remote: Remote,
    build: partial[VisionTransformer],
    **fields: Any,
) -> Card:
    """Return a card of an RGB encoder, unless `fields` say otherwise."""
    defaults: dict[str, Any] = {
        "size": 224,
        "patch": 16,
        "bands": ("R", "G", "B"),
        "unit": "uint8",
    }
    # antialias: as in util/pos_embed.py of the authors' code
    return Card(
        name=name,
        about=about,
        weights=remote,
        build=build,
        antialias=False,
        **defaults | fields,
    )


def _drop_head(state: State) -> State:
    return drop_tensors(state, "head")


def _drop_decoder(state: State) -> State:
    return drop_tensors(state, *DECODER)


def _satmae_card(tag: str, about: str, file: str, mean_pooled: bool) -> Card:
    name = f"satmae_vit_large_patch16_224.{tag}"
    page = "https://zenodo.org/record/7369797"
    return _card(
        name,
        f"SatMAE ViT-L/16, {about}",
        Remote(file, f"{page}/files/{file}", page=page),
        partial(build_mae_vit, name, LARGE, mean_pooled),
        # of fMoW RGB, util/datasets.py
        mean=(0.4182007312774658, 0.4214799106121063, 0.3991275727748871),
        std=(0.28774282336235046, 0.27541765570640564, 0.2764017581939697),
        license=SATMAE_LICENSE,
        convert=_drop_head if mean_pooled else _drop_decoder,
        sensor="WorldView, GeoEye, QuickBird",
    )


CARDS_SATMAE = (
    _satmae_card(
        "fmow_rgb", "pre-trained on fMoW RGB, 800 epochs", "fmow_pretrain.pth", False
    ),
    _satmae_card(
        "fmow_rgb_ft", "fine-tuned on fMoW RGB, 62 classes", "fmow_finetune.pth", True
    ),
)


def convert_sarmae(state: State) -> State:
    """Return the tensors of the radar encoder with timm's names.

    Decoder, optical encoder and projection are left out.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if any(name.startswith("sar_encoder.") for name in plain):
        plain = drop_tensors(plain, "optical_encoder", "sar_alignment_ffn")
    return _drop_decoder(
        {name.removeprefix("sar_encoder."): tensor for name, tensor in plain.items()}
    )


def _sarmae_card(kind: str, architecture: Architecture) -> Card:
    name = f"sarmae_vit_{kind}_patch16_224.sar1m"
    file = f"SARMAE_vit{kind[0]}_checkpoint-last"
    page = "https://huggingface.co/Wenquandan777/SARMAE"
    return _card(
        name,
        f"SARMAE ViT-{kind[0].upper()}/16, pre-trained on SAR-1M; gray repeated as R,"
        " G, B",
        Remote(file, f"{page}/resolve/main/{file}", page=page),
        partial(build_mae_vit, name, architecture, False),
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        # it refers to a file LICENSE that is missing
        license="no license published; the README states CC-BY-NC-4.0",
        convert=convert_sarmae,
        sensor="SAR, several sensors",
    )


CARDS_SARMAE = (_sarmae_card("base", BASE), _sarmae_card("large", LARGE))


# mean and standard deviation in fMoW-Sentinel, from util/datasets.py; B01, B09 and B10
# are not used
_STATISTICS = {
    "B02": (1184.3824625, 650.2842772),
    "B03": (1120.77120066, 712.12507725),
    "B04": (1136.26026392, 965.23119807),
    "B05": (1263.73947144, 948.9819932),
    "B06": (1645.40315151, 1108.06650639),
    "B07": (1846.87040806, 1258.36394548),
    "B08": (1762.59530783, 1233.1492281),
    "B8A": (1972.62420416, 1364.38688993),
    "B11": (1732.16362238, 1310.36996126),
    "B12": (1247.91870117, 1087.6020813),
}
BANDS = tuple(_STATISTICS)
BAND_GROUPS = ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))
"""Indices into BANDS: 10 m bands; red edge and narrow near infrared; short-wave
infrared."""

LIMITS = tuple((mean - 2 * std, mean + 2 * std) for mean, std in _STATISTICS.values())
"""Values of each band that became 0 and 1 in pre-training."""

CHANNEL_WIDTH = 256
"""Width of the part of the embedding that encodes the group; the other part encodes the
position."""


class GroupPatchEmbed(nn.ModuleList):
    """Patch embedding with one projection per group of bands.

    It maps (B, bands, S, S) to (B, G * (S / patch)^2, D).
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        img_size: int,
        in_chans: int,
        **options: Any,
    ) -> None:
        embeds = [
            PatchEmbed(img_size=img_size, in_chans=len(group), **options)
            for group in groups
        ]
        super().__init__(embeds)
        self.groups = [list(group) for group in groups]
        self.img_size = embeds[0].img_size
        self.patch_size = embeds[0].patch_size
        self.grid_size = embeds[0].grid_size
        self.num_patches = sum(embed.num_patches for embed in embeds)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches of all groups of images (B, bands, S, S).

        Returns:
            Patches (B, G * (S / patch)^2, D): all of the first group, then those of the
            second, and so on.
        """
        parts = zip(self, self.groups, strict=True)
        return torch.cat([embed(x[:, group]) for embed, group in parts], dim=1)


class GroupChannelViT(VisionTransformer):
    """A ViT over the patches of several groups of bands.

    One part of the embedding encodes the position, the other part the group. The tokens
    (B, 1 + G * (S / patch)^2, D) are the class token, then the patches group by group.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    patch_embed: GroupPatchEmbed

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        channel_width: int = CHANNEL_WIDTH,
        **options: Any,
    ) -> None:
        super().__init__(
            in_chans=sum(map(len, groups)),
            embed_layer=partial(GroupPatchEmbed, groups),
            **options,
        )
        rows, columns = self.patch_embed.grid_size
        self.pos_embed = nn.Parameter(
            torch.zeros(1, 1 + rows * columns, self.embed_dim - channel_width)
        )
        self.channel_embed = nn.Parameter(torch.zeros(1, len(groups), channel_width))
        self.channel_cls_embed = nn.Parameter(torch.zeros(1, 1, channel_width))

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add the embeddings and the class token.

        Returns:
            Tokens (B, 1 + G * L, D) of patches (B, G * L, D).
        """
        groups = self.channel_embed.shape[1]
        positions = self.pos_embed.shape[1] - 1
        # (1, G, L, D - C) and (1, G, L, C)
        position_part = self.pos_embed[:, None, 1:].expand(-1, groups, -1, -1)
        group_part = self.channel_embed[:, :, None].expand(-1, -1, positions, -1)
        tokens = x + torch.cat([position_part, group_part], dim=3).flatten(1, 2)
        class_embed = torch.cat([self.pos_embed[:, :1], self.channel_cls_embed], dim=2)
        class_token = (self.cls_token + class_embed).expand(x.shape[0], -1, -1)
        output: Tensor = self.pos_drop(torch.cat([class_token, tokens], dim=1))
        return output


def _convert_pretrained(state: State) -> State:
    """Convert a masked autoencoder.

    Its class token has no group embedding, which fine-tuning starts at zero.
    """
    tensors = drop_tensors(state, *DECODER, "decoder_channel_embed")
    if "channel_embed" in tensors and "channel_cls_embed" not in tensors:
        tensors["channel_cls_embed"] = torch.zeros_like(tensors["channel_embed"][:, :1])
    return tensors


def _group_card(kind: str, architecture: Architecture, file: str, md5: str) -> Card:
    page = "https://zenodo.org/record/7338613"
    name = f"satmae_vit_{kind}_patch8_96.fmow_sentinel"
    task = "pre-trained on fMoW-Sentinel, 200 epochs"
    convert = _convert_pretrained
    is_fine_tuned = file.startswith("finetune")
    if is_fine_tuned:
        name += "_ft"
        task = "fine-tuned on fMoW-Sentinel, 62 classes"
        convert = _drop_head
    return _card(
        name,
        f"SatMAE ViT-{kind[0].upper()}/8 of three groups of bands, {task}",
        Remote(file, f"{page}/files/{file}", page=page, md5=md5),
        partial(
            build_mae_vit,
            name,
            architecture,
            is_fine_tuned,
            patch=8,
            groups=BAND_GROUPS,
        ),
        size=96,
        patch=8,
        bands=BANDS,
        unit="uint16",
        mean=tuple(low for low, _ in LIMITS),
        std=tuple(high - low for low, high in LIMITS),
        license=SATMAE_LICENSE,
        convert=convert,
        sensor="Sentinel-2",
    )


_FILES = (
    ("large", LARGE, "pretrain-vit-large-e199.pth", "436bcd815194afdae38f3e023c74e9cd"),
    ("large", LARGE, "finetune-vit-large-e7.pth", "c1a6b1e97c7f99de7e38efa6e756c1ab"),
    ("base", BASE, "pretrain-vit-base-e199.pth", "1269e6a8255cee0affdeb6bb75776c86"),
    ("base", BASE, "finetune-vit-base-e7.pth", "775060bbd292a3d39216e36bf1423a02"),
)
"""Zenodo lists MD5 and sizes: 3.9, 3.6, 1.3 and 1.0 GB."""

CARDS_SATMAE_GROUPS = tuple(_group_card(*entry) for entry in _FILES)


CARDS = (*CARDS_SARMAE, *CARDS_SATMAE, *CARDS_SATMAE_GROUPS)
"""All encoders of this module."""
