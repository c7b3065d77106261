"""What a chip must be: bands, unit, pixel spacing and size."""

from collections.abc import Collection, Sequence

from pydantic import Field, InstanceOf

from rsft.data.imagery import units as pixel_units
from rsft.data.imagery.bands import is_gray_rgb
from rsft.data.imagery.document import StoredDocument
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import DataError
from rsft.types import Names, Pixels

SPACING_TOLERANCE = 0.1
"""Largest accepted relative difference of the pixel spacing. Augmentation scales by 15
% (sar) or 20 % (optical)."""


class ChipSpec(StoredDocument):
    """What a chip must be, for a model or for a chip store.

    A chip that does not match is an error, never a guess.

    Attributes:
        units: accepted units. A chip in another unit is converted to the first of them
            to which a conversion exists.
        digital: meaning of the digital numbers of uint8 and uint16 chips, such as
            "amplitude"; None if unknown.
        bands: names of the bands of a complete chip, in the order of its file. A chip
            needs only `used_bands`.
        crop: side of the center that is used, in pixels; None uses the whole chip.
        spacing_m: pixel spacing in meters; None if it varies, or is unknown for half of
            the chips.
        side: side of most chips in pixels, which chips of scenes get; None if no side
            is that common, with `crop`, or in bundles of rsft 0.2.
        owner: who needs such chips, for messages.
    """

    units: InstanceOf[Collection[str]]
    digital: str | None = None
    bands: Names
    crop: int | None = None
    spacing_m: float | None = None
    side: int | None = None
    owner: str = Field(default="the model", exclude=True)

    @property
    def used_bands(self) -> Names:
        """Names of the bands that a chip needs, in the order of `bands`."""
        return self.bands

    def band_indices(self, count: int, names: Sequence[str] | None) -> list[int]:
        """Return where a file with `count` bands has `used_bands`.

        Without names, a file with as many bands as a complete chip has them in the same
        order, and all bands of any other file are returned.

        Returns:
            Indices of `used_bands` in the file, from 0.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        used = self.used_bands
        if names is not None and len(names) != count:
            raise DataError(
                f"{count} bands, but names for {len(names)} ({', '.join(names)})",
                hint="give one name per band of the file, in its order, with --bands",
            )
        if names is None or (used == ("gray",) and count == 1):
            if count == len(self.bands):
                return [self.bands.index(band) for band in used]
            return list(range(count))
        if not set(used) <= set(names):
            needed = ", ".join(used)
            raise DataError(
                f"bands {', '.join(names)}, but {self.owner} takes {needed}",
                hint=(
                    f"give a file with {needed}; --bands only names the bands of a file"
                    " that does not name them"
                ),
            )
        return [names.index(band) for band in used]

    def assumed_bands(self, count: int, names: Sequence[str] | None) -> Names:
        """Return what the bands of a file without names are taken for.

        The result is empty if their order does not matter: one band has no order, and
        R, G, B is the order of image files.
        """
        if names is not None or count == 1:
            return ()
        for bands in (self.bands, self.used_bands):
            if len(bands) == count:
                return () if bands == ("R", "G", "B") else bands
        return ()

    def select_bands(self, pixels: Pixels, bands: Sequence[str] | None) -> Pixels:
        """Return a chip (H, W, B) with `used_bands` alone, in order.

        Without names, see `band_indices`.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        indices = self.band_indices(pixels.shape[2], bands)
        if indices == list(range(pixels.shape[2])):
            return pixels
        return pixels[:, :, indices]

    def take_gray(self, pixels: Pixels) -> Pixels:
        """Return the one band (H, W, 1) of a gray chip that was stored as RGB.

        Any other chip, and every chip for more than one band, is returned as it is.
        """
        if len(self.used_bands) == 1 and is_gray_rgb(pixels):
            return pixels[:, :, :1]
        return pixels

    def check(self, pixels: Pixels, unit: str | None = None) -> tuple[str, str]:
        """Check a chip (H, W, B) with `used_bands`, or with `bands`.

        The unit of integers defaults to `digital`, or to their data type if it is None.

        Returns:
            Unit of the chip, and the accepted unit to convert it to.

        Raises:
            DataError: the bands or the unit do not match, or the values cannot be in
                this unit.
        """
        unit, target_unit = self.check_header(str(pixels.dtype), pixels.shape[2], unit)
        pixel_units.check_unit(pixels, unit)
        return unit, target_unit

    def check_header(
        self, dtype: str, bands: int, unit: str | None = None
    ) -> tuple[str, str]:
        """Check type, number of bands and unit of a file before its pixels are read.

        Args:
            dtype: data type of the pixels, such as "uint16".
            bands: number of bands.
            unit: declared unit; integers default to `digital`, or to their data type if
                it is None.

        Returns:
            Unit of the chip, and the accepted unit to convert it to.

        Raises:
            DataError: the number of bands or the unit does not match, or the data type
                cannot carry the unit.
        """
        used = self.used_bands
        if bands not in (len(used), len(self.bands)):
            needed = ", ".join(used)
            raise DataError(
                f"{bands} bands, but {self.owner} takes {len(used)} ({needed})",
                hint=f"if {needed} is among them, name all bands of the file in order,"
                " with --bands; else give another file",
            )
        accepted = " or ".join(self.units)
        if unit:
            unit = pixel_units.parse_unit(unit)
        elif dtype in DIGITAL_UNITS:
            unit = dtype
        else:
            raise DataError(
                f"{dtype} pixels without a declared unit, but {self.owner} takes"
                f" {accepted}",
                hint=pixel_units.UNIT_HINT,
            )
        if unit in DIGITAL_UNITS:
            unit = self.digital or unit
        pixel_units.check_dtype(dtype, unit)
        if unit in self.units:
            return unit, unit
        for target in self.units:
            if pixel_units.can_convert(unit, target):
                return unit, target
        hint = pixel_units.conversion_hint(unit, next(iter(self.units)))
        raise DataError(
            f"{unit} pixels, but {self.owner} takes {accepted}", hint=f"{hint} (--unit)"
        )

    def check_spacing(self, spacing: Sequence[float]) -> None:
        """Raise an error if the pixel spacing does not match.

        Args:
            spacing: meters per pixel along rows and columns.

        Raises:
            DataError: the relative difference is larger than SPACING_TOLERANCE.
        """
        expected = self.spacing_m
        if not expected:
            return
        if all(abs(meters / expected - 1) <= SPACING_TOLERANCE for meters in spacing):
            return
        actual = " x ".join(dict.fromkeys(f"{meters:.4g}" for meters in spacing))
        raise DataError(
            f"pixels of {actual} m, but {self.owner} takes {expected:.4g} m",
            hint=f"resample them: --resample-to {expected:g}",
        )
