"""OpenSARShip dataset."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchgeo.datasets.errors import DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.datasets.formats.text_files import iterate_files, parse_finite
from rsft.data.datasets.images import (
    LabeledImages,
    Sample,
    Transforms,
    to_image_tensor,
)
from rsft.plugins.opensarship.ship_files import (
    OpenSARShipChip,
    OpenSARShipLabel,
    OpenSARShipProduct,
    read_opensarship_pixels,
    read_ship_records,
)

_Files = dict[tuple[str, tuple[str, ...]], dict[str, Path]]
"""Files of the bands of a chip by suffix, by its category and center."""
_SCENE = re.compile(r"S1[A-D]_IW_(?:GRDH|SLC_)_1(?:SDV|SSV)(?:_[0-9A-Z]+)+")
_NAME = re.compile(r"(?:Visual_)?(.+)_x(\d+)_y(\d+)(?:_(vh|vv))?\.tiff?", re.ASCII)
_FULL_NAMES = {
    "Search": "Search and Rescue vessel",
    "Law Enforce": "Law Enforcement",
}
"""Types that are truncated in the files."""
_UNKNOWN = ("", "NA", "Unspecified", "Reserved", "Other")
"""Types of MarineTraffic that say nothing."""
_HAZARD = " - Hazard"  # as in "Tanker - Hazard D (Recognizable)"
_KINDS = {
    "Passenger": ("Passenger",),
    "Tanker": ("Tanker",),
    "Cargo": ("Cargo", "Carrier", "Container", "Reefer"),
}


def ship_kind(ship_type: str) -> str:
    """Return the kind of a ship type of AIS or MarineTraffic.

    Args:
        ship_type: such as "Bulk Carrier", "LPG Tanker", "Ro-Ro/Passenger Ship" or "Tug"

    Returns:
        "Passenger", "Tanker", "Cargo" or "Other"
    """
    for kind, words in _KINDS.items():
        if any(word in ship_type for word in words):
            return kind
    return "Other"


class OpenSARShip(LabeledImages):
    """OpenSARShip dataset.

    `OpenSARShip <https://opensar.sjtu.edu.cn/>`__ is a dataset for the interpretation
    of ships in Sentinel-1 images. Ships are matched to messages of the automatic
    identification system (AIS).

    Dataset features:

    * 11,346 chips of 41 scenes (version 1.0), 34,528 chips of 87 scenes (version 2.0)
    * VH and VV polarization; some scenes have VV only
    * interferometric wide swath mode: ground range detected (GRDH, pixel spacing 10 m)
      and single look complex (SLC)
    * ship type, MMSI, length and width from AIS; ship type from MarineTraffic;
      incidence angle

    AIS types are entered by hand. The type "Other Type" is the AIS code 9x, and
    MarineTraffic knows many of these ships as cargo ships and tankers. So the type of
    MarineTraffic is the default label.

    Dataset format:

    * a scene is a folder named after its Sentinel-1 product
    * chips are GeoTIFF files in a folder per product: Patch_Uint8 (stretched for
      display, one file per band), Patch_Cal (calibrated, linear sigma0), Patch
      (amplitude; real and imaginary part of each band for SLC)
    * Ship.xml has one record per ship

    The dataset has no train/val/test split and cannot be downloaded automatically.
    Chips differ in size.

    If you use this dataset in your research, please cite the following papers:

    * https://doi.org/10.1109/JSTARS.2017.2755672
    * https://doi.org/10.1109/BIGSARDATA.2017.8124929 (version 2.0)

    Attributes:
        classes: the ship types that occur, sorted, in the order of the labels.
        chips: by scene, then by name.
        rejected: file, line (0 for the whole file) and reason of files that cannot be
            used, and of records without a chip.
    """

    products: ClassVar[dict[OpenSARShipProduct, str]] = {
        "uint8": "Patch_Uint8",
        "cal": "Patch_Cal",
        "patch": "Patch",
    }
    """Folder of each product."""

    labels: ClassVar[tuple[OpenSARShipLabel, ...]] = ("marinetraffic", "ais")
    """Sources of the ship type."""

    modes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "SDV": ("VH", "VV"),
        "SSV": ("VV",),
    }
    """Bands by the polarization mode in the name of a scene, in the order of the
    files."""

    def __init__(
        self,
        root: PathOrText = "data",
        product: OpenSARShipProduct = "uint8",
        transforms: Transforms | None = None,
        label: OpenSARShipLabel = "marinetraffic",
    ) -> None:
        """Initialize a new OpenSARShip dataset instance.

        Args:
            root: root directory that contains the scenes at any depth
            product: one of "uint8", "cal" or "patch"
            transforms: a function/transform that takes an input sample and returns a
                transformed version
            label: "marinetraffic" for the ship type of MarineTraffic, or of AIS where
                it is unknown; "ais" for that of AIS

        Raises:
            AssertionError: if *product* or *label* is invalid
            DatasetNotFoundError: if no scene has chips of this product
        """
        assert product in self.products, (
            f"product must be one of {tuple(self.products)}"
        )
        assert label in self.labels, f"label must be one of {self.labels}"
        self.root = root
        self.product = product
        self.transforms = transforms
        self.label = label
        self.rejected: list[tuple[str, int, str]] = []
        self.chips: list[OpenSARShipChip] = []
        folders = sorted(
            {
                parts[:-1]
                for parts in iterate_files(Path(root))
                if parts[-2:-1] == (self.products[product],)
            }
        )
        if not folders:
            raise DatasetNotFoundError(self)
        for parts in folders:
            self._read_scene(Path(root, *parts))
        self.classes = sorted({chip.ship_type(label) for chip in self.chips})

    def __len__(self) -> int:
        """Return the number of samples in the dataset."""
        return len(self.chips)

    def load_sample(self, index: int) -> Sample:
        """Return image (B, H, W) in the unit of the product, and label."""
        chip = self.chips[index]
        label = self.classes.index(chip.ship_type(self.label))
        image = to_image_tensor(read_opensarship_pixels(chip, self.product))
        return {"image": image, "label": torch.tensor(label)}

    def _reject(self, path: Path, reason: str) -> None:
        self.rejected.append((str(path), 0, reason))

    def _read_scene(self, folder: Path) -> None:
        """Add the chips in one folder."""
        scene = _find_scene_name(folder.parent)
        if scene is None:
            self._reject(
                folder.parent,
                "neither the folder nor a file in it is named after a Sentinel-1 IW"
                " scene of VV, or of VH and VV",
            )
            return
        bands = self.modes[scene.split("_1", 1)[1][:3]]
        suffixes: tuple[str, ...] = ("",)
        if self.product == "uint8" and len(bands) > 1:
            suffixes = bands
        list_file = folder.parent / "Ship.xml"
        records = {}
        try:
            records = read_ship_records(list_file)
        except (OSError, ValueError) as error:
            self._reject(list_file, str(error))
        for (category, center), files in self._group_files(folder).items():
            record = records.pop(center, None)
            if set(files) != set(suffixes):
                expected = ", ".join(suffix or "none" for suffix in suffixes)
                reason = (
                    f"the band suffixes must be {expected}, by the name of the scene"
                )
                for path in files.values():
                    self._reject(path, reason)
                continue
            paths = tuple(files[suffix] for suffix in suffixes)
            chip = OpenSARShipChip(
                paths, scene, category, bands, **_parse_record(record, category)
            )
            self.chips.append(chip)
        for x, y in records:
            self._reject(
                list_file, f"no chip for the record of Center_x {x}, Center_y {y}"
            )

    def _group_files(self, folder: Path) -> _Files:
        """Return the files by category and center, then by band suffix."""
        files: _Files = {}
        for path in sorted(filter(Path.is_file, folder.iterdir())):
            match = _NAME.fullmatch(path.name)
            if match is None:
                self._reject(path, "the name is not <class>_x<column>_y<row>.tif")
                continue
            category, x, y, suffix = match.groups("")
            key = (_FULL_NAMES.get(category, category), (x, y))
            files.setdefault(key, {})[suffix.upper()] = path
        return files


def _find_scene_name(folder: Path) -> str | None:
    """Return the Sentinel-1 product after which a folder or a file in it is named."""
    for name in (folder.name, *sorted(path.name for path in folder.iterdir())):
        match = _SCENE.search(name)
        if match:
            return match[0]
    return None


def _parse_record(record: Mapping[str, str] | None, category: str) -> dict[str, Any]:
    """Return fields of an `OpenSARShipChip`."""
    if record is None:
        return {"flags": ("no-record",)}
    flags: tuple[str, ...] = ()
    ship_type = record.get("Elaborated_type", "").partition(_HAZARD)[0]
    ship_type = _FULL_NAMES.get(ship_type, ship_type)
    is_known = ship_type not in _UNKNOWN
    if is_known and ship_kind(ship_type) != ship_kind(category):
        flags = ("label-conflict",)
    return {
        "marinetraffic_type": ship_type if is_known else None,
        "mmsi": record.get("MMSI"),
        # 0 means unknown in AIS
        "length_m": parse_finite(record.get("Length")) or None,
        "beam_m": parse_finite(record.get("Width")) or None,
        "incidence_deg": parse_finite(record.get("Incidence")),
        "flags": flags,
    }
