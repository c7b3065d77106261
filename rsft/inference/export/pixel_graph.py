"""The whole pipeline as one network: from the pixels of a chip to probabilities and the distance from the training."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import UNIT_DTYPES, convert_unit, parse_unit
from rsft.errors import RequestError
from rsft.inference.export.traceable import TraceableNetwork, build_network
from rsft.models.bundle.bundle import Bundle
from rsft.models.uncertainty.mahalanobis import nearest_distance, white_class_means
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.models.views import VIEWS, average_outputs, tta_contract

PIXELS, PROBABILITIES, OOD_DISTANCE = "pixels", "probabilities", "ood_distance"
"""Names of the input and the outputs of a whole pipeline."""

_WEIGHT_SCALE = np.float32(2048)  # OpenCV's bilinear weights of bytes are whole numbers


class ChipTreatment(nn.Module):
    """What a contract does with the pixels of a chip, for chips of one size and one unit.

    It computes the same bytes as `Contract.to_image`, and then the network's input.

    Args:
        contract: the contract of the chips.
        unit: unit of the pixels.
        side: side of the chips in pixels.

    Raises:
        RequestError: the stretch depends on the whole chip.
        DataError: the contract does not accept the unit.
    """

    def __init__(self, contract: Contract, unit: str, side: int) -> None:
        super().__init__()
        dtype = UNIT_DTYPES[parse_unit(unit)][0]
        self.unit, self.target_unit = contract.check_header(str(dtype), len(contract.used_bands), unit)
        channels = list(zip(contract.planes, contract.units[self.target_unit], strict=True))
        self.channels = list(dict.fromkeys(channels))
        if any(stretch.high is None for _, stretch in self.channels):
            message = "the stretch takes the maximum of each chip (data.stretch=chip-max), which no graph computes"
            raise RequestError(message, "--whole", "export without --whole, or train with measured limits")
        self.bands, self.crop, self.side = contract.used_bands, contract.crop or side, side
        self.resize = ByteResize(min(self.crop, side), contract.size, len(self.channels))
        self.register_buffer("indices", torch.tensor([self.channels.index(channel) for channel in channels]))
        self.register_buffer("values", torch.from_numpy(contract.byte_values()))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return network inputs.

        Args:
            pixels: chips (N, B, H, W) with `used_bands` of the contract, float32.

        Returns:
            (N, P, S, S).
        """
        start, crop = max(0, (self.side - self.crop) // 2), self.crop
        chips = pixels[:, :, start : start + crop, start : start + crop].permute(0, 2, 3, 1)
        values = convert_unit(cast(Any, chips), self.unit, self.target_unit)
        planes = compute_planes(values, self.bands, [plane for plane, _ in self.channels])
        levels = [stretch.to_levels(plane) for plane, (_, stretch) in zip(planes, self.channels, strict=True)]
        resized = self.resize(torch.stack(levels, 1))
        bytes_of_planes = resized[:, cast(Tensor, self.indices)].long()
        tables = cast(Tensor, self.values)
        return torch.stack([table[bytes_of_planes[:, index]] for index, table in enumerate(tables)], 1)


class ByteResize(nn.Module):
    """OpenCV's resizing of bytes, with the same rounding: area averaging if the image shrinks, else bilinear.

    Args:
        side: side of the images.
        size: side of the resized images.
        channels: number of planes, on which the rounding of OpenCV depends.
    """

    def __init__(self, side: int, size: int, channels: int) -> None:
        super().__init__()
        self.side, self.size = side, size
        self.rounds_up = side == 2 * size and channels in (1, 3, 4)
        if side > size:
            self.register_buffer("weights", torch.from_numpy(_area_weights(side, size)))
        else:
            start, shares = _linear_positions(side, size)
            first, second = (torch.from_numpy(np.clip(start + offset, 0, side - 1)) for offset in (0, 1))
            self.register_buffer("first", first)
            self.register_buffer("second", second)
            self.register_buffer("row_weights", _whole_weights(shares))
            self.register_buffer(
                "column_weights", _whole_weights(np.where((start < 0) | (start == side - 1), 0, shares))
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return resized images.

        Args:
            images: whole numbers from 0 to 255 (N, P, side, side), float32.

        Returns:
            Whole numbers from 0 to 255 (N, P, size, size), float32.
        """
        if self.side == self.size:
            return images
        return self._shrink(images) if self.side > self.size else self._enlarge(images)

    def _shrink(self, images: Tensor) -> Tensor:
        weights = cast(Tensor, self.weights)
        if self.side % self.size:
            return torch.round(weights @ (images @ weights.T)).clip(0, 255)
        factor = self.side // self.size
        sums = weights @ (images @ weights.T)  # weights of 0 and 1: the sums are exact
        if self.rounds_up:
            return torch.floor((sums + 2) / 4)
        return torch.round(sums * float(np.float32(1) / np.float32(factor * factor)))

    def _enlarge(self, images: Tensor) -> Tensor:
        first, second = cast(Tensor, self.first), cast(Tensor, self.second)
        near, far = cast(Tensor, self.column_weights).unbind()
        exact = images.double()
        columns = torch.floor((exact[..., first] * near + exact[..., second] * far) / 16)
        near, far = cast(Tensor, self.row_weights)[..., None].unbind()
        rows = torch.floor(columns[:, :, first] * near / 65536) + torch.floor(columns[:, :, second] * far / 65536)
        return torch.floor((rows + 2) / 4).clip(0, 255).float()


def _area_weights(side: int, size: int) -> NDArray[np.float32]:
    """Return the share of each of `side` pixels in each of `size` pixels (size, side); 1 if pixels are not divided."""
    if side % size == 0:
        return np.repeat(np.eye(size, dtype=np.float32), side // size, axis=1)
    scale = side / size
    starts, pixels = np.arange(size)[:, None] * scale, np.arange(side)[None]
    overlap = np.minimum(pixels + 1, starts + scale) - np.maximum(pixels, starts)
    overlap[overlap < 1e-3] = 0  # as in OpenCV
    return np.asarray(overlap / scale, np.float32)


def _linear_positions(side: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the first of the two pixels between which each position lies (size,), and the share of the second one."""
    positions = ((np.arange(size) + 0.5) * (side / size) - 0.5).astype(np.float32)
    start = np.floor(positions)
    return start.astype(np.int64), positions - start


def _whole_weights(shares: NDArray[np.floating]) -> Tensor:
    """Return the weights of the two pixels as OpenCV's whole numbers (2, size)."""
    shares = np.asarray(shares, np.float32)
    return torch.from_numpy(np.rint(np.stack([1 - shares, shares]) * _WEIGHT_SCALE).astype(np.float64))


class WholePipeline(nn.Module):
    """Chip treatment, network, test-time views and calibration of a bundle as one network.

    Args:
        bundle: the bundle.
        unit: unit of the pixels.
        side: side of the chips in pixels.

    Raises:
        RequestError: a step of the bundle cannot be in a graph.
        DataError: the contract does not accept the unit.
        WeightsError: the backbone on this machine is not that of the bundle.
    """

    def __init__(self, bundle: Bundle, unit: str, side: int) -> None:
        super().__init__()
        self.treatment = ChipTreatment(tta_contract(bundle.contract, bundle.recipe.evaluate), unit, side)
        self.network: TraceableNetwork = build_network(bundle)
        self.views, self.size = bundle.recipe.evaluate.tta, bundle.contract.size
        calibrator = bundle.calibrator
        self.temperature = 1.0 if calibrator is None else calibrator.temperature
        self.has_distance = calibrator is not None
        if calibrator is not None:
            self.limit = calibrator.ood_limit()
            means = white_class_means(calibrator.means, calibrator.whitening)
            self.register_buffer("white_means", torch.from_numpy(means))
            self.register_buffer("whitening", torch.from_numpy(calibrator.whitening).double())

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities (N, C) and, of a calibrated bundle, the OOD distance (N,).

        Args:
            pixels: chips (N, B, H, W), float32.

        Returns:
            The outputs, float32.
        """
        logits, features = self._predict(self.treatment(pixels))
        probabilities = log_softmax(logits, self.temperature).exp().float()
        if not self.has_distance:
            return (probabilities,)
        white = features.double() @ cast(Tensor, self.whitening)
        return probabilities, (nearest_distance(white, cast(Tensor, self.white_means)) / self.limit).float()

    def _predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.views == "none":
            return cast(tuple[Tensor, Tensor], self.network(images))
        views = VIEWS[self.views](images, self.size)
        outputs = self.network(torch.cat(views))  # one copy of the network in the graph
        logits, features = average_outputs(*(values.reshape(len(views), -1, values.shape[1]) for values in outputs))
        return logits, features
