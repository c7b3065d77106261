"""A bundle as a module of PyTorch: from the pixels of chips to logits."""

from __future__ import annotations

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
        self.treatments = nn.ModuleDict()
        self._treatment(contract.crop or contract.size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return network inputs (N, P, S, S) of pixels (N, B, H, H).

        Raises:
            RequestError: the shape is another one.
        """
        used = self.contract.used_bands
        shape = tuple(pixels.shape)
        if len(shape) != 4 or shape[1] != len(used) or shape[2] != shape[3]:
            raise RequestError(
                f"pixels of shape {shape}",
                "pixels",
                f"give (N, {len(used)}, H, H): square chips of {', '.join(used)}",
            )
        inputs = self._treatment(shape[2]).to(pixels.device)(pixels.float())
        return cast(Tensor, inputs)

    def _treatment(self, side: int) -> nn.Module:
        """Return the transforms of chips of a side, which are made once."""
        if str(side) not in self.treatments:
            treatment = ChipTreatment(self.contract, self.unit, side)
            self.treatments[str(side)] = treatment
        return self.treatments[str(side)]


class ChipModule(nn.Module):
    """The network of a bundle behind the transforms of its chips.

    Args:
        bundle: the bundle.
        unit: unit of the pixels; None takes the first one of the bundle.

    Attributes:
        transforms: maps pixels (N, B, H, H) to network inputs (N, P, S, S).
        network: maps network inputs to logits (N, C), with test-time views.

    Raises:
        RequestError: see `ChipTransforms`.
        DataError: see `ChipTransforms`.
        WeightsError: the backbone on this machine is not that of the bundle.
    """

    def __init__(self, bundle: Bundle, unit: str | None = None) -> None:
        super().__init__()
        network = load_classifier(bundle, "cpu")
        model, contract = with_tta(network, bundle.contract, bundle.recipe.evaluate)
        self.transforms = ChipTransforms(contract, unit)
        self.network = model
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (N, C) of pixels (N, B, H, H) in the unit."""
        return cast(Tensor, self.network(self.transforms(pixels)))
