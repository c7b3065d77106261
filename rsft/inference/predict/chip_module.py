"""A bundle as a module of PyTorch: from the pixels of chips to logits."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError
from rsft.inference.export.whole import ChipTreatment
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier


class ChipTransforms(nn.Module):
    """Map the pixels of square chips of any size to the inputs of a network.

    Args:
        contract: bands, unit and size of the network.
        unit: unit of the pixels; None takes the first one of the contract.

    Raises:
        RequestError: the transforms depend on the whole chip.
        DataError: the contract does not accept the unit.
    """

    def __init__(self, contract: Contract, unit: str | None) -> None:
        super().__init__()
        self.contract = contract
        self.unit = unit or contract.digital or next(iter(contract.units))
        ChipTreatment(contract, self.unit, contract.size)  # raises the errors

    def forward(self, pixels: Tensor) -> Tensor:
        """Return network inputs (N, P, S, S) of pixels (N, B, H, H).

        Raises:
            RequestError: the shape is another one.
        """
        used = self.contract.used_bands
        *_, side = pixels.shape
        if pixels.shape[1:] != (len(used), side, side):
            raise RequestError(
                f"pixels of shape {tuple(pixels.shape)}",
                "pixels",
                f"give (N, {len(used)}, H, H): square chips of {', '.join(used)}",
            )
        return cast(
            Tensor,
            ChipTreatment(self.contract, self.unit, side).to(pixels.device)(
                pixels.float()
            ),
        )


def make_module(bundle: Bundle, unit: str | None = None) -> nn.Sequential:
    """Return the network of a bundle behind the transforms of its chips.

    Args:
        bundle: the bundle.
        unit: unit of the pixels; None takes the first one of the bundle.

    Returns:
        A module in evaluation mode: `transforms` maps pixels (N, B, H, H) to network
        inputs (N, P, S, S), and `network` maps them to logits (N, C), with test-time
        views.

    Raises:
        RequestError: see `ChipTransforms`.
        DataError: see `ChipTransforms`.
        WeightsError: the backbone on this machine is not that of the bundle.
    """
    network, contract = with_tta(
        load_classifier(bundle, "cpu"), bundle.contract, bundle.recipe.evaluate
    )
    steps: OrderedDict[str, nn.Module] = OrderedDict(
        transforms=ChipTransforms(contract, unit)
    )
    steps["network"] = network
    return nn.Sequential(steps).eval()
