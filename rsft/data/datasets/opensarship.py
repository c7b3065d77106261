"""OpenSARShip 1.0 and 2.0: ship chips of Sentinel-1 IW, matched to AIS.

Huang et al. 2018, "OpenSARShip: a dataset dedicated to Sentinel-1 ship interpretation", IEEE JSTARS 11(1), and
Li et al. 2017 for 2.0. A scene is a folder named after its Sentinel-1 product, and contains Patch*/ and Ship.xml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Rejection

OpenSARShipProduct = Literal["uint8", "cal", "patch"]

PRODUCT_FOLDERS: Mapping[OpenSARShipProduct, str] = {"uint8": "Patch_Uint8", "cal": "Patch_Cal", "patch": "Patch"}
PRODUCT_UNITS: Mapping[OpenSARShipProduct, str] = {"uint8": "uint8", "cal": "sigma0", "patch": "amplitude"}
"""Unit of each product.

uint8 is stretched for display, sigma0 is linear and calibrated, amplitude is digital numbers (|re + i im| for SLC).
"""
MODE_BANDS = {"SDV": ("VH", "VV"), "SSV": ("VV",)}
"""Bands by the polarization mode in the scene name, in the order of the files."""
PRODUCT_SPACING_M = {"GRDH": 10.0}
"""Pixel spacing by Sentinel-1 product type, in meters."""

_SCENE = re.compile(r"S1[A-D]_IW_(?:GRDH|SLC_)_1(?:SDV|SSV)(?:_[0-9A-Z]+)+")
_NAME = re.compile(r"(?:Visual_)?(.+)_x(\d+)_y(\d+)(?:_(vh|vv))?\.tiff?", re.ASCII)
_FULL_NAMES = {"Search": "Search and Rescue vessel"}  # truncated in Patch_Cal
_WRONG_END, _END = rb"<\ShipList>", b"</ShipList>"  # a fault of version 2.0
_CODES = {6: "Passenger", 7: "Cargo", 8: "Tanker"}  # the tens of an AIS ship type


@dataclass(frozen=True)
class OpenSARShipChip:
    """A chip with its record in Ship.xml; values that the record lacks are None.

    Attributes:
        paths: one file, or one file per band for the product uint8.
        scene: name of the Sentinel-1 product.
        category: ship type in the file name.
        bands: band names, in the order of the pixels.
        mmsi: MMSI of the vessel.
        length_m: length of the vessel in meters.
        incidence_deg: incidence angle in degrees.
        longitude: longitude of the center in degrees.
        latitude: latitude of the center in degrees.
        flags: "no-record" if Ship.xml has no record; "class-code" if the AIS ship type contradicts the category.
    """

    paths: tuple[Path, ...]
    scene: str
    category: str
    bands: tuple[str, ...]
    mmsi: str | None = None
    length_m: float | None = None
    incidence_deg: float | None = None
    longitude: float | None = None
    latitude: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def sensor(self) -> str:
        """Satellite, mode and product type, such as "S1A IW GRDH"."""
        return " ".join(self.scene.split("_")[:3])

    @property
    def spacing_m(self) -> float | None:
        """Pixel spacing of GRDH in meters; None for SLC, whose spacing varies with direction and range."""
        return PRODUCT_SPACING_M.get(self.scene.split("_")[2])


class OpenSARShip(NonGeoDataset):
    """OpenSARShip, one sample per chip of one product.

    Args:
        root: a folder that contains the scenes at any depth.
        product: uint8, cal or patch.
        transforms: applied to each sample.

    Attributes:
        classes: the categories that occur, sorted, in the order of the labels.
        chips: by scene, then by name.
        rejected: files that cannot be used, and records without a chip.

    Raises:
        RequestError: no scene has this product.
    """

    def __init__(
        self,
        root: Path,
        product: OpenSARShipProduct = "uint8",
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.root, self.product, self.transforms = root, product, transforms
        self.rejected: list[Rejection] = []
        self.chips: list[OpenSARShipChip] = []
        folders = sorted(path for path in root.rglob(PRODUCT_FOLDERS[product]) if path.is_dir())
        if not folders:
            hint = f"give the folder that contains the scenes, each with {PRODUCT_FOLDERS[product]}/ and Ship.xml"
            raise RequestError(f"no OpenSARShip scene with chips of product {product}", root, hint)
        for folder in folders:
            self._read_scene(folder)
        self.classes = sorted({chip.category for chip in self.chips})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (B, H, W) float32 in the unit of the product; label: index into `classes`.
        """
        chip = self.chips[index]
        pixels = read_opensarship_pixels(chip, self.product).astype(np.float32)
        label = torch.tensor(self.classes.index(chip.category))
        sample = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "label": label}
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """Plot the bands side by side in gray, each stretched to its 99.5th percentile.

        Args:
            sample: a sample from `__getitem__`.

        Returns:
            The figure.
        """
        image = sample["image"].numpy()
        figure, axes = plt.subplots(1, len(image), squeeze=False)
        for ax, band in zip(axes[0], image, strict=True):
            ax.imshow(band, cmap="gray", vmin=0, vmax=np.percentile(band, 99.5))
            ax.axis("off")
        figure.suptitle(self.classes[int(sample["label"])])
        return figure

    def _read_scene(self, folder: Path) -> None:
        scene = _scene_name(folder.parent)
        if scene is None:
            reason = "neither the folder nor a file in it is named after a Sentinel-1 IW scene of VV, or of VH and VV"
            self.rejected.append((str(folder.parent), 0, reason))
            return
        bands = MODE_BANDS[scene.split("_1", 1)[1][:3]]
        suffixes = bands if self.product == "uint8" and len(bands) > 1 else ("",)
        records = self._read_ship_records(folder.parent / "Ship.xml")
        for (category, x, y), files in self._group_files(folder).items():
            record = records.pop((x, y), None)
            if set(files) == set(suffixes):
                paths = tuple(files[suffix] for suffix in suffixes)
                fields = {"flags": ("no-record",)} if record is None else _parse_record(record, category)
                self.chips.append(OpenSARShipChip(paths, scene, category, bands, **fields))
            else:
                expected = ", ".join(suffix or "none" for suffix in suffixes)
                reason = f"the band suffixes must be {expected}, by the name of the scene"
                self.rejected += [(str(path), 0, reason) for path in files.values()]
        for x, y in records:
            reason = f"no chip for the record of Center_x {x}, Center_y {y}"
            self.rejected.append((str(folder.parent / "Ship.xml"), 0, reason))

    def _group_files(self, folder: Path) -> dict[tuple[str, str, str], dict[str, Path]]:
        """Return the files by (category, center x, center y), then by the suffix of the band."""
        files: dict[tuple[str, str, str], dict[str, Path]] = {}
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            match = _NAME.fullmatch(path.name)
            if match is None:
                self.rejected.append((str(path), 0, "the name is not <class>_x<column>_y<row>.tif"))
            else:
                key = (_FULL_NAMES.get(match[1], match[1]), match[2], match[3])
                files.setdefault(key, {})[(match[4] or "").upper()] = path
        return files

    def _read_ship_records(self, path: Path) -> dict[tuple[str, str], dict[str, str]]:
        try:
            return read_ship_records(path)
        except DataError as error:
            self.rejected.append((str(path), 0, error.message))
            return {}


def read_ship_records(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Read the records of a Ship.xml.

    Args:
        path: the file.

    Returns:
        Element texts by element name, by (Center_x, Center_y).

    Raises:
        DataError: the file cannot be read or is not a ship list.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    if b"<!DOCTYPE" in data:  # could define entities that expand without bound
        raise DataError("the file declares a document type, which a ship list does not have", path)
    try:
        root = ElementTree.fromstring(data.replace(_WRONG_END, _END))
    except ElementTree.ParseError as error:
        raise DataError(f"the file is not XML: {error}", path) from error
    records = [{item.tag: (item.text or "").strip() for part in ship for item in part} for ship in root]
    return {(record.get("Center_x", ""), record.get("Center_y", "")): record for record in records}


def read_opensarship_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """Read the pixels of a chip.

    Args:
        chip: the chip.
        product: the product that the chip belongs to.

    Returns:
        Pixels (H, W, B) in the order of `chip.bands`: uint8, or float32 for the products cal and patch.

    Raises:
        DataError: a file cannot be read, or its number of bands or data type does not fit the product.
    """
    files = [read_chip(path) for path in chip.paths]
    if len({file.shape for file in files}) > 1:
        raise DataError("the bands differ in size", chip.paths[0])
    pixels = np.concatenate(files, axis=2)
    is_complex = product == "patch" and chip.sensor.endswith("SLC")
    bands, dtype = len(chip.bands) * (1 + is_complex), np.uint8 if product == "uint8" else np.float32
    if pixels.shape[2] != bands or pixels.dtype != dtype:
        actual = f"{pixels.shape[2]} bands of {pixels.dtype}"
        raise DataError(f"{actual}, but {bands} of {np.dtype(dtype)} are expected", chip.paths[0])
    return np.hypot(pixels[:, :, 0::2], pixels[:, :, 1::2]) if is_complex else pixels


def _scene_name(folder: Path) -> str | None:
    """Return the Sentinel-1 product name in the name of the folder, or else of a file in it."""
    names = [folder.name, *sorted(path.name for path in folder.iterdir())]
    return next((match[0] for match in map(_SCENE.search, names) if match), None)


def _parse_record(record: Mapping[str, str], category: str) -> dict[str, Any]:
    code = record.get("Ship_Type", "")
    ais_category = _CODES.get(int(code) // 10, category) if code.isdecimal() else category
    return {
        "mmsi": record.get("MMSI"),
        "length_m": _parse_float(record.get("Length")) or None,  # 0 means unknown in AIS
        "incidence_deg": _parse_float(record.get("Incidence")),
        "longitude": _parse_float(record.get("Center_longitude")),
        "latitude": _parse_float(record.get("Center_latitude")),
        "flags": () if ais_category == category else ("class-code",),
    }


def _parse_float(text: str | None) -> float | None:
    """Parse a finite number; return None for a missing or invalid value."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None
