"""Images of a batch as bytes, which become network inputs on the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from rsft.data.imagery.contract import Contract
from rsft.types import Bytes


@dataclass(frozen=True)
class ByteImages:
    """Images of a batch before normalization.

    A gray image has one byte per pixel, and its network input has 12.
    `rsft.models.devices.copy_to_device` returns the network inputs.

    Attributes:
        images: bytes (b, S, S, P), or (b, S, S, 1) if all planes have the same bytes.
        contract: how they become network inputs.
    """

    images: Tensor
    contract: Contract

    @classmethod
    def stack(cls, images: Sequence[Bytes], contract: Contract) -> Self:
        """Stack images (S, S, P), each plane once if all have the same bytes."""
        return cls(torch.from_numpy(contract.stack(images)), contract)


Inputs = Tensor | ByteImages
"""What a batch contains: images, or values that were computed from images."""
