"""The interface of chip sources, which read numbered chips one at a time."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError
from rsft.types import Pixels


class NoDataError(DataError):
    """A tile has no data. Such tiles are counted, but not listed as rejected."""


class SourceChip(NamedTuple):
    """A chip that a source has read.

    Attributes:
        pixels: (H, W, B), the bands that the contract uses, in order.
        unit: the declared unit; None if it is unknown.
        spacing: pixel spacing in meters along columns and along rows; None if it is unknown. Tiles have None as well,
            because their length is not measured: they may have no object in the middle.
        columns: table columns of the chip, among them `chip` and `geometry`.
        is_gray: whether the chip was stored with three equal bands, of which `pixels` has one.
        clipped: number of values below the thermal noise, which the calibration raised to its smallest value.
        values: number of values that were read for the chip.
    """

    pixels: Pixels
    unit: str | None
    spacing: tuple[float, float] | None
    columns: dict[str, Any]
    is_gray: bool
    clipped: int = 0
    values: int = 0


class ChipSource(Protocol):
    """Numbered chips. Several threads may read at the same time."""

    def __len__(self) -> int:
        """Return the number of chips."""

    def read(self, number: int) -> SourceChip:
        """Read a chip.

        Args:
            number: number of the chip, from 0.

        Returns:
            The chip.

        Raises:
            NoDataError: the chip is a tile without data.
            DataError: the chip cannot be read, or does not fulfill the contract.
        """

    def location_of(self, number: int) -> tuple[str, int]:
        """Return the file and the line (0 for the whole file) that the list of rejected chips names for a chip.

        Args:
            number: number of the chip.

        Returns:
            File and line.
        """

    def close(self) -> None:
        """Close all files."""


def collapse_gray_rgb(pixels: Pixels, contract: Contract) -> tuple[Pixels, bool]:
    """Reduce a gray chip that was stored as RGB to one band, if the model takes one band.

    Args:
        pixels: (H, W, B).
        contract: bands of the model.

    Returns:
        Pixels (H, W, 1) and True for such a chip, else the unchanged pixels and False.
    """
    is_gray = pixels.shape[2] == 3 and len(contract.used_bands) == 1 and bool((pixels == pixels[:, :, :1]).all())
    return (pixels[:, :, :1] if is_gray else pixels), is_gray


def path_to_text(path: object) -> str:
    """Return a path as text that every file format can store, even if its name is not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()
