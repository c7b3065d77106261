"""Contract between pixels and network, which a bundle stores.

It is two things in one flat document: what a chip must be, and how a chip becomes the
input of the network.
"""

from functools import lru_cache
from typing import ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from rsft.data.imagery.bands import required_bands
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.input_transform import MAX_CROP_SIDE, InputTransform
from rsft.data.imagery.stretch import PlaneStatistics, Stretches
from rsft.types import Bytes, Floats32, JsonObject, Names, Pixels

_ORDER = (
    "units",
    "digital",
    "bands",
    "planes",
    "crop",
    "size",
    "mean",
    "std",
    "statistics",
    "spacing_m",
    "chip_standard",
    "side",
)
"""Order of the fields in a bundle, on which its hash depends."""


class Contract(InputTransform, ChipSpec):
    """What the chips of a model must be, and how they become its input.

    Attributes:
        statistics: statistics of each plane of the training chips, by unit, if a
            stretch was measured.
    """

    newer: ClassVar[JsonObject] = {"chip_standard": False, "side": None}

    units: Stretches
    statistics: PlaneStatistics = Field(default={})
    side: int | None = Field(default=None, ge=1, le=MAX_CROP_SIDE)

    @model_serializer(mode="wrap")
    def _order(self, serialize: SerializerFunctionWrapHandler) -> JsonObject:
        written = self._leave_out_defaults(serialize)
        return {name: written[name] for name in _ORDER if name in written}

    @property
    def clipping_note(self) -> str:
        """Share of the training chips whose brightest pixels the stretch clips.

        It is stated for each plane; "" if none is clipped.
        """
        shares = []
        for planes in self.statistics.values():
            for plane, statistics in zip(self.planes, planes, strict=True):
                if statistics.clipped:
                    shares.append(f"{statistics.clipped:.1%} (plane {plane})")
        if not shares:
            return ""
        return (
            "the brightest pixel is cut in a share of the training chips:"
            f" {', '.join(dict.fromkeys(shares))}; see data.stretch"
        )

    @property
    def used_bands(self) -> Names:
        """Names of the bands of the planes, in the order of `bands`."""
        return _used_bands(self.planes, self.bands)

    def to_image(
        self, pixels: Pixels, unit: str | None = None, *, resize: bool = True
    ) -> Bytes:
        """Check a chip, and return its image (size, size, P); see `check` and `render`.

        Raises:
            DataError: see `check`.
        """
        pixels = self.take_gray(self.select_bands(pixels, None))
        units = self.check(pixels, unit)
        return self.render(pixels, self.used_bands, units, resize=resize)

    def to_input(self, pixels: Pixels, unit: str | None = None) -> Floats32:
        """Convert a chip to the network's input (P, size, size), without augmentation.

        Raises:
            DataError: see `check`.
        """
        inputs: Floats32 = self.normalize([self.to_image(pixels, unit)])[0]
        return inputs


@lru_cache(maxsize=256)
def _used_bands(planes: Names, bands: Names) -> Names:
    required = set().union(*map(required_bands, planes))
    return tuple(band for band in bands if band in required) or bands
