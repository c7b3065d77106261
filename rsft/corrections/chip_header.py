"""What the file of a corrected chip declares. It is read in the reader cell."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rsft.data.imagery.band_names import read_band_names, read_unit
from rsft.data.imagery.rasters import read_tiff_tags
from rsft.inference.predict.scene_chips import SCENE_TAG
from rsft.scenes.georeference import read_georeference
from rsft.types import Bands, Spacing
from rsft.utils.cell.client import in_cell


class ChipHeader(NamedTuple):
    """What a chip file declares; None or "" if it does not."""

    bands: Bands | None = None
    unit: str | None = None
    spacing: Spacing | None = None
    scene: str = ""


@in_cell
def read_chip_header(path: Path) -> ChipHeader:
    """Read what a chip file declares: nothing, if it has no tags."""
    return read_tiff_tags(path, partial(_read_header, path)) or ChipHeader()


def _read_header(path: Path, file: Any) -> ChipHeader:
    georeference = read_georeference(file)
    spacing = None
    if georeference:
        spacing = georeference.spacing_at(file.height / 2, file.width / 2)
    unit = read_unit([file], path)
    scene = file.tags().get(SCENE_TAG, "")
    return ChipHeader(read_band_names(file), unit, spacing, scene)
