"""What a chip must be to fit a store: bands, unit, data type and pixel spacing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsft.data.chips.builder import resolve_unit
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import DataError
from rsft.models.contract_fitting import common_spacing
from rsft.types import Pixels


class StoreFit:
    """The requirements of a store on its chips.

    Args:
        store: the store.

    Attributes:
        bands: names of the bands.
        units: units of the chips.
        spacing_m: pixel spacing in meters; None if it varies or is unknown.
    """

    def __init__(self, store: ChipStore) -> None:
        self.bands, self.units = store.bands, store.units
        self.spacing_m = common_spacing(pd.to_numeric(store.table["spacing_m"]).to_numpy(float).tolist())

    def contract(self, side: int | None) -> Contract:
        """Return a contract for chips with all bands of the store, in one of its units.

        Args:
            side: side of the chips in pixels; None if it varies.
        """
        count = len(self.bands)
        return Contract(
            units={unit: (IDENTITY_STRETCH,) * count for unit in self.units},
            bands=self.bands,
            planes=self.bands,
            crop=side,
            size=side or 1,
            mean=(0.0,) * count,
            std=(1.0,) * count,
        )

    def select_bands(self, pixels: Pixels, names: tuple[str, ...] | None) -> Pixels:
        """Select the bands of the store.

        Args:
            pixels: the chip (H, W, B).
            names: names of its bands; None if they are unknown: then it must have as many as the store.

        Returns:
            Pixels (H, W, B).

        Raises:
            DataError: bands are missing.
        """
        count, needed = pixels.shape[2], ", ".join(self.bands)
        if len(self.bands) == 1 and names in (None, ("R", "G", "B")) and count == 3 and _is_gray(pixels):
            return pixels[:, :, :1]
        if names is None:
            if count != len(self.bands):
                raise DataError(f"{count} bands without names, but the store has {needed}", hint="name them: --bands")
            return pixels
        if len(names) != count:
            raise DataError(f"{count} bands, but {len(names)} names ({', '.join(names)})")
        if self.bands == ("gray",) and count == 1:
            return pixels
        if not set(self.bands) <= set(names):
            raise DataError(f"bands {', '.join(names)}, but the store has {needed}")
        return pixels if names == self.bands else pixels[:, :, [names.index(name) for name in self.bands]]

    def check_unit(self, pixels: Pixels, *units: str | None) -> str:
        """Return the unit of a chip after a check.

        Args:
            pixels: the chip (H, W, B).
            *units: units that user, store, file and table declare, the most certain one first; None if they do not.

        Returns:
            The first declared unit. For integers, the first that the store has, or else their data type.

        Raises:
            DataError: the store has another unit, or the values cannot be in this unit.
        """
        is_float = pixels.dtype.kind == "f"
        declared = [unit for unit in units if unit and (is_float or unit in self.units)]
        if is_float and not declared:
            raise DataError(f"{pixels.dtype} pixels without a unit, but the store has {self._units()}; give --unit")
        unit = resolve_unit(pixels, declared[0] if declared else None)
        if unit not in self.units:
            raise DataError(f"{unit} pixels, but the store has {self._units()}")
        return unit

    def check_spacing(self, spacing: tuple[float, float] | None) -> float | None:
        """Return the pixel spacing for the manifest after a check.

        Args:
            spacing: pixel spacing in meters along columns and along rows; None if it is unknown.

        Returns:
            The spacing of the store, if it has one; else that of the chip, if it is known.

        Raises:
            DataError: the chip has another spacing than the store.
        """
        if spacing is None:
            return None
        try:
            self.contract(None).model_copy(update={"spacing_m": self.spacing_m}).check_spacing(spacing)
        except DataError as error:
            message = error.message.replace("the model was trained on", "the store has")
            raise DataError(message) from error
        return self.spacing_m or round(float(np.mean(spacing)), 4)

    def _units(self) -> str:
        return " or ".join(self.units)


def _is_gray(pixels: Pixels) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())
