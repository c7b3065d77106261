"""The encoder `vectors`, which reads the vectors of chips (`vector_image`)."""

from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card, check_input_size
from rsft.backbones.frozen_network import FrozenNetwork
from rsft.errors import DataError
from rsft.plugins.vectors.vector_image import NUMBER_BYTES, image_side

NAME = "vectors"


class VectorReader(nn.Module):
    """Maps images (B, 1, side, side) of bytes to vectors (B, side * side / 4 - 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors, with zeros behind their D numbers.

        Raises:
            DataError: the images are not those of vectors of one length.
        """
        numbers = x.round().to(torch.uint8).flatten(1).view(torch.float32)
        side = x.shape[-1]
        length = float(numbers[0, 0])
        is_vector = 0 < length < numbers.shape[1] and length.is_integer()
        is_vector = is_vector and image_side(int(length)) == side
        if not is_vector or bool((numbers[:, 0] != length).any()):
            raise DataError(
                "the chips are no vectors of one length",
                f"{side} x {side} pixels",
                "build them with `rsft prepare vectors`, and set data.size to their"
                " side, data.augment=none and evaluate.tta=none",
            )
        return numbers[:, 1:]


def build_vector_network(size: int) -> VisionTransformer:
    """Build the network for images of a side.

    Raises:
        RequestError: the side is odd.
    """
    check_input_size(NAME, 2, size)
    network = FrozenNetwork(VectorReader(), size * size // NUMBER_BYTES - 1)
    return cast(VisionTransformer, network)


CARDS = (
    Card(
        name=NAME,
        about="vectors of any encoder, one per chip (`rsft prepare vectors`)",
        size=18,
        patch=2,
        bands=("vector",),
        unit="uint8",
        mean=(0.0,),
        std=(1 / 255,),  # inputs are bytes from 0 to 255
        license="MIT",
        weights=None,
        is_frozen=True,
        build=build_vector_network,
        sensor="any",
    ),
)
