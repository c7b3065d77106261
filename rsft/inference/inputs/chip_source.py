"""What is to be classified: numbered chips, each read when its turn comes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError
from rsft.types import Pixels


class NoData(DataError):
    """A tile of a scene in which nothing was measured: counted, not listed."""


class Chip(NamedTuple):
    """A chip as it was read.

    Attributes:
        pixels: (H, W, B), the contract's bands.
        unit: as far as it is declared.
        spacing: metres a pixel, down and along; None where not known, or of a tile, in whose middle is no object.
        facts: columns of its row, among them `chip` and `geometry`.
        grey: whether it is one band out of three that were equal.
    """

    pixels: Pixels
    unit: str | None
    spacing: tuple[float, float] | None
    facts: dict[str, Any]
    grey: bool


class Source(Protocol):
    """Chips that are read from several threads at once."""

    def __len__(self) -> int:
        """How many chips."""

    def read(self, number: int) -> Chip:
        """The chip.

        Raises:
            NoData: nothing was measured there, which is no fault.
            DataError: it cannot be read, or breaks the contract.
        """

    def where(self, number: int) -> tuple[str, int]:
        """File and line (0: the whole file) that a refusal is told of."""

    def close(self) -> None:
        """Close what is open."""


def one_band(pixels: Pixels, contract: Contract) -> tuple[Pixels, bool]:
    """Of a grey chip that was stored as RGB, one band where the model takes one; and whether it was such a chip."""
    grey = pixels.shape[2] == 3 and len(contract.bands) == 1 and bool((pixels == pixels[:, :, :1]).all())
    return (pixels[:, :, :1] if grey else pixels), grey


def text(path: object) -> str:
    """A path as text that every format can hold, whatever bytes its name is made of."""
    return str(path).encode("utf-8", "backslashreplace").decode()
