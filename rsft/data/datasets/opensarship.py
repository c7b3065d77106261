"""OpenSARShip 1.0 and 2.0: ship chips of Sentinel-1 IW, matched to AIS.

Huang et al. 2018, "OpenSARShip: a dataset dedicated to Sentinel-1 ship interpretation", IEEE JSTARS 11(1), and
Li et al. 2017 for 2.0. A scene is a folder named after its Sentinel-1 product, with Patch*/ and Ship.xml in it.
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
"""uint8: stretched for the eye; sigma0: linear, calibrated; amplitude: digital numbers, of SLC |re + i im|."""
MODE_BANDS = {"SDV": ("VH", "VV"), "SSV": ("VV",)}
"""By the polarisation mode in the scene's name, in the order of the files."""
PRODUCT_SPACING_M = {"GRDH": 10.0}

_SCENE = re.compile(r"S1[A-D]_IW_(?:GRDH|SLC_)_1(?:SDV|SSV)(?:_[0-9A-Z]+)+")
_NAME = re.compile(r"(?:Visual_)?(.+)_x(\d+)_y(\d+)(?:_(vh|vv))?\.tiff?", re.ASCII)
_WHOLE_NAMES = {"Search": "Search and Rescue vessel"}  # Patch_Cal cuts it short
_WRONG_END, _END = rb"<\ShipList>", b"</ShipList>"  # as the writer of 2.0 leaves it
_CODES = {6: "Passenger", 7: "Cargo", 8: "Tanker"}  # the tens of an AIS ship type


@dataclass(frozen=True)
class OpenSARShipChip:
    """A chip and what its record in Ship.xml says; None where it says nothing.

    Attributes:
        paths: one file, or of product uint8 one a band.
        scene: name of the Sentinel-1 product.
        category: as in the file's name.
        flags: "no-record" without one; "class-code" where the AIS ship type means another category.
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
        """Satellite and level, such as S1A IW GRDH."""
        return " ".join(self.scene.split("_")[:3])

    @property
    def spacing_m(self) -> float | None:
        """Of GRDH alone: that of SLC differs by direction and with range."""
        return PRODUCT_SPACING_M.get(self.scene.split("_")[2])


class OpenSARShip(NonGeoDataset):
    """The chips of one product in the scenes under `root`, at whatever depth.

    Attributes:
        chips: by scene, then by name.
        classes: the categories that occur, sorted.
        rejected: files that cannot be used, and records without a chip.

    Raises:
        RequestError: no scene with that product in it.
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
            wanted = f"name the folder that holds the scenes, each with {PRODUCT_FOLDERS[product]}/ and Ship.xml"
            raise RequestError(f"no OpenSARShip scene with chips of product {product}", root, wanted)
        for folder in folders:
            self._read_scene(folder)
        self.classes = sorted({chip.category for chip in self.chips})

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """image: (B, H, W) float32 in the product's unit; label: index into `classes`."""
        chip = self.chips[index]
        pixels = read_opensarship_pixels(chip, self.product).astype(np.float32)
        label = torch.tensor(self.classes.index(chip.category))
        sample = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "label": label}
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """The bands side by side in grey, the brightest half percent of each saturated."""
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
        records = self._read_records(folder.parent / "Ship.xml")
        for (category, x, y), files in self._files_by_ship(folder).items():
            record = records.pop((x, y), None)
            if set(files) == set(suffixes):
                paths = tuple(files[suffix] for suffix in suffixes)
                facts = {"flags": ("no-record",)} if record is None else _facts(record, category)
                self.chips.append(OpenSARShipChip(paths, scene, category, bands, **facts))
            else:
                wanted = ", ".join(suffix or "none" for suffix in suffixes)
                reason = f"the suffixes of the bands are not {wanted}, as the scene's name has it"
                self.rejected += [(str(path), 0, reason) for path in files.values()]
        for x, y in records:
            reason = f"there is no chip for the record of Center_x {x}, Center_y {y}"
            self.rejected.append((str(folder.parent / "Ship.xml"), 0, reason))

    def _files_by_ship(self, folder: Path) -> dict[tuple[str, str, str], dict[str, Path]]:
        """By class and centre, then by the suffix of the band."""
        found: dict[tuple[str, str, str], dict[str, Path]] = {}
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            match = _NAME.fullmatch(path.name)
            if match is None:
                self.rejected.append((str(path), 0, "the name is not <class>_x<column>_y<row>.tif"))
            else:
                key = (_WHOLE_NAMES.get(match[1], match[1]), match[2], match[3])
                found.setdefault(key, {})[(match[4] or "").upper()] = path
        return found

    def _read_records(self, path: Path) -> dict[tuple[str, str], dict[str, str]]:
        try:
            return read_ship_records(path)
        except DataError as error:
            self.rejected.append((str(path), 0, error.message))
            return {}


def read_ship_records(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The records of a Ship.xml by (Center_x, Center_y), every element by its name.

    Raises:
        DataError: the file cannot be read or is no such list.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    if b"<!DOCTYPE" in data:  # entities that grow without bound
        raise DataError("the file declares a document type, which a ship list has not", path)
    try:
        root = ElementTree.fromstring(data.replace(_WRONG_END, _END))
    except ElementTree.ParseError as error:
        raise DataError(f"the file is no XML: {error}", path) from error
    records = [{item.tag: (item.text or "").strip() for part in ship for item in part} for ship in root]
    return {(record.get("Center_x", ""), record.get("Center_y", "")): record for record in records}


def read_opensarship_pixels(chip: OpenSARShipChip, product: OpenSARShipProduct) -> Pixels:
    """(H, W, B) in the order of `chip.bands`: uint8, or float32.

    Raises:
        DataError: a file that cannot be read, or of another number of bands or number type than the product has.
    """
    parts = [read_chip(path) for path in chip.paths]
    if len({part.shape for part in parts}) > 1:
        raise DataError("the bands differ in size", chip.paths[0])
    pixels = np.concatenate(parts, axis=2)
    is_complex = product == "patch" and chip.sensor.endswith("SLC")
    bands, number_type = len(chip.bands) * (1 + is_complex), np.uint8 if product == "uint8" else np.float32
    if pixels.shape[2] != bands or pixels.dtype != number_type:
        found = f"{pixels.shape[2]} bands of {pixels.dtype}"
        raise DataError(f"{found}, where {bands} of {np.dtype(number_type)} are expected", chip.paths[0])
    return np.hypot(pixels[:, :, 0::2], pixels[:, :, 1::2]) if is_complex else pixels


def _scene_name(folder: Path) -> str | None:
    """By the folder's name, else by that of a file in it."""
    names = [folder.name, *sorted(path.name for path in folder.iterdir())]
    return next((match[0] for match in map(_SCENE.search, names) if match), None)


def _facts(record: Mapping[str, str], category: str) -> dict[str, Any]:
    code = record.get("Ship_Type", "")
    meant = _CODES.get(int(code) // 10, category) if code.isdecimal() else category
    return {
        "mmsi": record.get("MMSI"),
        "length_m": _number(record.get("Length")) or None,  # AIS says 0 for unknown
        "incidence_deg": _number(record.get("Incidence")),
        "longitude": _number(record.get("Center_longitude")),
        "latitude": _number(record.get("Center_latitude")),
        "flags": () if meant == category else ("class-code",),
    }


def _number(text: str | None) -> float | None:
    """None for what is absent, NaN or no number."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None
