"""AI2's network for the type of vessels in Sentinel-1.

Source: https://github.com/allenai/rslearn_projects at commit e9c2152c, of July 2026:
docs/sentinel1_vessels.md and data/sentinel1_vessel_attribute/config.yaml; the modules
are `Swin` and `PoolingDecoder` of https://github.com/allenai/rslearn. Code and weights
are Copyright of the Allen Institute for AI and licensed under Apache-2.0. The network
was trained on about a million vessels whose type AIS tells.

The encoder is torchvision's `swin_v2_b` without its last norm. Each property of a
vessel has a decoder of its own on its map: a convolution, the maximum over the map and
two layers. Here, the decoder of the type belongs to the encoder, except for its last
layer, which is the linear head of a bundle. The decoders of length, width, speed and
heading are left out.

The input is the digital numbers of a GRD product divided by 250, around the vessel in
the middle of 128 pixels of 10 m. AI2 warps them to UTM first, with north at the top.
"""

import re
from typing import Any, cast

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.backbones.card import (
    Card,
    PublishedClassifier,
    Remote,
    State,
    drop_tensors,
)
from rsft.backbones.timm_vits import STRIDE, build_hierarchical
from rsft.backbones.torchgeo_vits import TIMM_NAMES, convert_torchvision_swin
from rsft.data.imagery.stretch import Stretch

NAME = "ai2-sentinel1-vessels"
BANDS = ("VV", "VH")
CHANNELS = 128
FEATURES = 512
"""Channels of the convolution, and width of the two layers, of each decoder."""

_ENCODER = "model.encoder.0.model"
_DECODERS = "model.decoders"
_TYPE = f"{_DECODERS}.ship_type.0"
_LAST = f"{_TYPE}.output_layer"
_OTHERS = ("length", "width", "speed", "heading_x", "heading_y")
_RENAMES = {
    f"{_TYPE}.conv_layers.0.0.": "head.convolution.",
    f"{_TYPE}.fc_layers.0.0.": "head.first.",
    f"{_TYPE}.fc_layers.1.0.": "head.second.",
}


class TypeDecoder(nn.Module):
    """The decoder of the type without its last layer.

    Args:
        channels: channels C of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, CHANNELS, 3, padding=1)
        self.first = nn.Linear(CHANNELS, FEATURES)
        self.second = nn.Linear(FEATURES, FEATURES)
        self.fc = nn.Identity()  # the classifier of timm's networks

    def forward(self, features: Tensor, pre_logits: bool = True) -> Tensor:
        """Return the vectors (B, 512) of feature maps (B, H, W, C)."""
        maps = F.relu(self.convolution(features.permute(0, 3, 1, 2)))
        pooled = maps.amax(dim=(2, 3))
        return F.relu(self.second(F.relu(self.first(pooled))))


def build_vessel_network(size: int, **architecture: Any) -> VisionTransformer:
    """Build the network with random weights.

    Args:
        size: side of the input, in pixels.
        **architecture: other arguments of timm's network, for a smaller one.

    Returns:
        A network that maps (B, 2, size, size) to a feature map; `forward_head` makes
        vectors of it.

    Raises:
        RequestError: `size` is not a multiple of 32.
    """
    network: Any = build_hierarchical(
        TIMM_NAMES["swin_v2_b"], size, pads=True, in_chans=len(BANDS), **architecture
    )
    network.norm = nn.Identity()
    network.head = TypeDecoder(network.num_features)
    network.num_features = FEATURES
    return cast(VisionTransformer, network)


def convert_vessel_network(state: State) -> State:
    """Return the tensors of the network in a checkpoint of Lightning.

    Returns:
        Name -> tensor, without copies. Unknown tensors keep their names, so that the
        loader refuses them.
    """
    encoder = {}
    converted = {}
    unused = [f"{_DECODERS}.{name}" for name in _OTHERS]
    tensors = drop_tensors(state, *unused, _LAST, f"{_ENCODER}.norm")
    for name, tensor in tensors.items():
        if name.startswith(f"{_ENCODER}."):
            encoder[name.removeprefix(f"{_ENCODER}.")] = tensor
            continue
        for old, new in _RENAMES.items():
            name = re.sub(f"^{re.escape(old)}", new, name)
        converted[name] = tensor
    return convert_torchvision_swin(encoder) | converted


def read_type_layer(state: State) -> State:
    """Return the tensors of the last layer of the decoder of the type."""
    names = [name for name in state if name.startswith(f"{_LAST}.")]
    return {name.removeprefix(f"{_LAST}."): state[name] for name in names}


_PATH = "projects/2026_04_22_sentinel1_vessel_attribute/swinb_newdata_01/best.ckpt"

CARDS = (
    Card(
        name=NAME,
        about=(
            "AI2's Swin V2-B for the type of vessels, trained on about a million"
            " vessels with AIS"
        ),
        size=128,
        patch=STRIDE,
        bands=BANDS,
        unit="sentinel1_dn",
        mean=(0.0, 0.0),
        std=(250.0, 250.0),
        license="Apache-2.0",
        # no size and no checksum are published
        weights=Remote(
            f"{NAME}.ckpt",
            f"https://storage.googleapis.com/ai2-rslearn-projects-data/{_PATH}",
            page="https://github.com/allenai/rslearn_projects",
        ),
        build=build_vessel_network,
        convert=convert_vessel_network,
        sensor="Sentinel-1",
        classifier=PublishedClassifier(
            classes=(
                "cargo",
                "tanker",
                "passenger",
                "service",
                "tug",
                "pleasure",
                "fishing",
                "enforcement",
                "sar",
            ),
            head=read_type_layer,
            spacing_m=10.0,
            # bytes with steps of 4 %, up to the largest digital number
            stretch=Stretch(curve="log1p", high=65535.0, restored=True),
            left_out="length, width, speed and heading",
        ),
    ),
)
"""The encoder with its classifier."""
