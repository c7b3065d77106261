"""Chips of OpenSARShip and their records, read in the reader cell."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsft.utils.cell.client import in_cell

OpenSARShipProduct = Literal["uint8", "cal", "patch"]
OpenSARShipLabel = Literal["marinetraffic", "ais"]

Records = dict[tuple[str, ...], dict[str, str]]
"""Texts of the elements of a record by element, by the center of its chip."""
_WRONG_END = rb"<\ShipList>"
"""A fault of version 2.0."""


@dataclass(frozen=True)
class OpenSARShipChip:
    """A chip with its record in Ship.xml; values that the record lacks are None.

    Attributes:
        paths: one file, or one file per band for the product uint8.
        scene: name of the Sentinel-1 product.
        category: ship type in the file name, which is that of AIS.
        bands: band names, in the order of the pixels.
        marinetraffic_type: ship type of MarineTraffic (`Elaborated_type`); None if it
            is unknown.
        length_m: length from AIS.
        beam_m: width from AIS.
        flags: "no-record" if Ship.xml has no record; "label-conflict" if AIS and
            MarineTraffic name ships of different kinds (`ship_kind`).
    """

    paths: tuple[Path, ...]
    scene: str
    category: str
    bands: tuple[str, ...]
    marinetraffic_type: str | None = None
    mmsi: str | None = None
    length_m: float | None = None
    beam_m: float | None = None
    incidence_deg: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def sensor(self) -> str:
        """Satellite, mode and product type, such as "S1A IW GRDH"."""
        return " ".join(self.scene.split("_")[:3])

    def ship_type(self, label: OpenSARShipLabel) -> str:
        """Return the ship type of MarineTraffic, or of AIS where it is unknown.

        With the label "ais", return that of AIS.
        """
        if label == "ais" or self.marinetraffic_type is None:
            return self.category
        return self.marinetraffic_type


@in_cell
def read_ship_records(path: Path) -> Records:
    """Read the records of a Ship.xml.

    Returns:
        element texts by element name, by (Center_x, Center_y)

    Raises:
        OSError: if the file cannot be read
        ValueError: if the file is not a ship list
    """
    data = path.read_bytes()
    if b"<!DOCTYPE" in data:  # could define entities that expand without bound
        raise ValueError(
            "the file declares a document type, which a ship list does not have"
        )
    try:
        root = ElementTree.fromstring(data.replace(_WRONG_END, b"</ShipList>"))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"the file is not XML: {error}") from error
    records: Records = {}
    for ship in root:
        record = {item.tag: (item.text or "").strip() for item in ship.iterfind("*/*")}
        records[record.get("Center_x", ""), record.get("Center_y", "")] = record
    return records


@in_cell
def read_opensarship_pixels(
    chip: OpenSARShipChip, product: OpenSARShipProduct
) -> NDArray[Any]:
    """Read the pixels of a chip of a product.

    Returns:
        pixels (H, W, B) in the order of `chip.bands`: uint8, or float32 for the
        products cal and patch

    Raises:
        OSError: if a file cannot be read
        ValueError: if the number of bands or the data type does not fit the product
    """
    files = [_read_tiff(path) for path in chip.paths]
    if len({file.shape for file in files}) > 1:
        raise ValueError("the bands differ in size")
    pixels = np.concatenate(files).transpose(1, 2, 0)
    is_complex = product == "patch" and chip.sensor.endswith("SLC")
    bands = len(chip.bands) * (1 + is_complex)
    dtype = np.uint8 if product == "uint8" else np.float32
    if pixels.shape[2] != bands or pixels.dtype != dtype:
        raise ValueError(
            f"{pixels.shape[2]} bands of {pixels.dtype}, but {bands} of"
            f" {np.dtype(dtype)} are expected"
        )
    return np.hypot(pixels[:, :, 0::2], pixels[:, :, 1::2]) if is_complex else pixels


def _read_tiff(path: Path) -> NDArray[Any]:
    """Read all bands (B, H, W); chips are not georeferenced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with path.open("rb") as data, rasterio.open(data, driver="GTiff") as file:
            return np.asarray(file.read())
