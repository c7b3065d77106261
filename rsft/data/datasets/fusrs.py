"""FUSRS dataset."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torchgeo.datasets.errors import DatasetNotFoundError
from torchgeo.datasets.utils import check_integrity, download_url

from rsft.data.datasets.formats.fusar_files import CONTRADICTION, FUSARChip
from rsft.data.datasets.formats.fusrs_classes import CLASSES
from rsft.data.datasets.formats.srsdd_files import SRSDDShip
from rsft.data.datasets.formats.text_files import (
    PathOrText,
    Rejected,
    read_text_lines,
)
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.images import LabeledImages, Sample, Transforms, load_gray_image
from rsft.data.datasets.srsdd import SRSDD

LIST_VERSIONS = {4: "v25", 5: "v17"}
"""File name prefix of the authors' lists, by number of classes."""

_CHIP_NAME = re.compile(r"Ship_C(\d+)S\d+N\d+", re.ASCII)
_ROW = re.compile(r"(\S+)\s+(\d{1,3})", re.ASCII)
_SHIP_NAME = re.compile(r"L(\d+)_\d+", re.ASCII)


@dataclass(frozen=True)
class FUSRSListRow:
    """A row `name label` of a list.

    Attributes:
        name: file name without suffix.
        label: class index, from 0.
        split: train or test.
        file: the list.
        line: line number in the list, from 1.
    """

    name: str
    label: int
    split: str
    file: Path
    line: int

    @property
    def image(self) -> int | None:
        """Number of the SRSDD image in the name L<image>_<k>, or None."""
        match = _SHIP_NAME.fullmatch(self.name)
        return int(match[1]) if match else None

    @property
    def category(self) -> int | None:
        """FUSAR-Ship category in the name Ship_CxxSyyNzzzz, from 1, or None."""
        match = _CHIP_NAME.fullmatch(self.name)
        return int(match[1]) if match else None


class FUSRS(LabeledImages):
    """FUSRS dataset.

    `FUSRS <https://github.com/doem97/metalora>`__ v2 is a long-tailed dataset for ship
    classification. It joins the chips of FUSAR-Ship with one chip per ship of SRSDD, by
    lists of the authors.

    Dataset features:

    * single band, 8 or 16 bits; 512 x 512 px from FUSAR-Ship, a multiple of 64 px from
      SRSDD
    * 5,261 rows for training and 1,700 for testing with four classes, 6,971 and 2,129
      with five
    * rows may repeat a name; 101 names are in both splits

    Dataset format:

    * lists v25_train.txt and v25_test.txt (four classes) or v17_train.txt and
      v17_test.txt (five) in *root*, with one `name label` per row
    * FUSAR-Ship in the folder FUSAR-Ship and SRSDD in the folder SRSDD, as published

    Dataset classes:

    * with four classes: 0. cargo, 1. fishing, 2. tanker, 3. dredger
    * with five classes: 0. cargo, 1. other, 2. fishing, 3. tanker, 4. dredger

    The class "cargo" of the lists contains the categories Other, Passenger, Tug and so
    on of FUSAR-Ship, but not its category Cargo. Archives and lists must be
    downloaded by hand.

    If you use this dataset in your research, please cite the following papers:

    * Tian et al. 2025, "Meta-Learning Hyperparameters for Parameter Efficient
      Fine-Tuning", CVPR
    * https://doi.org/10.1007/s11432-019-2772-5
    * https://doi.org/10.3390/rs13245104

    Attributes:
        rows: rows of the list whose chip exists, in the order of the list.
        chips: chips of both archives by name in the lists. The authors kept their chips
            in one folder, so a name stands for one file there. Where several files have
            it, the first stands for it: first those whose folder agrees with the
            category in the name, then by path.
        rejected: rows that cannot be parsed, and rows whose chip does not exist.
    """

    url = "https://huggingface.co/datasets/doem1997/rs_lt/resolve/main/"
    md5s: ClassVar[dict[str, str]] = {
        "v25_train.txt": "6f2248aa063ea635687d747d481445e8",
        "v25_test.txt": "7008f3398853736092f9dda4a43b41c2",
        "v17_train.txt": "c7768d0b70000070bac35eb2522a2dd5",
        "v17_test.txt": "b41214bc19123cc307f4047c7913521b",
    }
    splits = ("train", "test")

    def __init__(
        self,
        root: PathOrText = "data",
        split: str = "train",
        num_classes: int = 4,
        transforms: Transforms | None = None,
        download: bool = False,
        checksum: bool = False,
        fusar_chips: Sequence[FUSARChip] | None = None,
        srsdd_ships: Sequence[SRSDDShip] | None = None,
    ) -> None:
        """Initialize a new FUSRS dataset instance.

        Args:
            root: root directory where dataset can be found
            split: one of "train" or "test"
            num_classes: 4, or 5 with the class "other"
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version
            download: if True, download the list and store it in the root directory
            checksum: if True, check the MD5 of the list
            fusar_chips: the chips of FUSAR-Ship, by default those in *root*
            srsdd_ships: the ships of all splits of SRSDD, by default those in *root*

        Raises:
            AssertionError: If *split* or *num_classes* argument is invalid.
            DatasetNotFoundError: If dataset or an archive is not found.
            RuntimeError: If *checksum* is True and the list differs from the published
                one.
            ValueError: If no row of the list can be used.
        """
        assert split in self.splits, (
            f"Split '{split}' not supported, use one of {self.splits}"
        )
        assert num_classes in CLASSES, f"num_classes must be one of {tuple(CLASSES)}"
        self.root = root
        self.split = split
        self.transforms = transforms
        self.download = download
        self.checksum = checksum
        self.classes = CLASSES[num_classes]
        name = f"{LIST_VERSIONS[num_classes]}_{split}.txt"
        path = Path(root, name)
        if download and not path.is_file():
            download_url(self.url + name, root, filename=name)
        if not path.is_file():
            raise DatasetNotFoundError(self)
        if checksum and not check_integrity(path, self.md5s[name]):
            raise RuntimeError("Dataset found, but corrupted.")
        rows, self.rejected = read_fusrs_list(path, split, num_classes)
        if fusar_chips is None:
            fusar_chips = FUSARShip(Path(root, "FUSAR-Ship")).chips
        if srsdd_ships is None:
            srsdd_ships = SRSDD(Path(root, "SRSDD"), split="all").ships
        self.chips = _group_by_name(fusar_chips, srsdd_ships)
        self.rows = []
        for row in rows:
            if row.name in self.chips:
                self.rows.append(row)
            else:
                self.rejected.append(
                    (str(row.file), row.line, f"{row.name} is in neither archive")
                )

    def __len__(self) -> int:
        """Return the number of samples in the dataset."""
        return len(self.rows)

    def load_sample(self, index: int) -> Sample:
        """Return image (1, H, W) with the values of the file, and label."""
        row = self.rows[index]
        chip = self.chips[row.name][0]
        if isinstance(chip, FUSARChip):
            image = load_gray_image(chip.path)
        else:
            pixels = chip.crop(load_gray_image(chip.image)[0].numpy())
            image = torch.from_numpy(pixels)[None]
        return {"image": image, "label": torch.tensor(row.label)}


def _group_by_name(
    chips: Sequence[FUSARChip], ships: Sequence[SRSDDShip]
) -> dict[str, list[FUSARChip | SRSDDShip]]:
    """Return the chips of each name, first those whose folder agrees with the name."""
    groups = defaultdict[str, list[FUSARChip | SRSDDShip]](list)
    for chip in sorted(chips, key=lambda chip: CONTRADICTION in chip.flags):
        groups[chip.name].append(chip)
    for ship in ships:
        groups[ship.name].append(ship)
    return groups


def read_fusrs_list(
    path: Path, split: str, num_classes: int
) -> tuple[list[FUSRSListRow], Rejected]:
    """Read one list.

    Returns:
        The rows in file order, including repeated ones, and the rows that cannot be
        parsed.

    Raises:
        ValueError: the file is no text, or no row can be used.
        OSError: the file cannot be read.
    """
    rows = []
    rejected = []
    for number, line in read_text_lines(path):
        try:
            name, label = _parse_row(line, num_classes)
            rows.append(FUSRSListRow(name, label, split, path, number))
        except ValueError as error:
            rejected.append((str(path), number, str(error)))
    if not rows:
        reason = "the file is empty"
        if rejected:
            reason = f"line {rejected[0][1]}: {rejected[0][2]}"
        raise ValueError(f"no row of the list {path.name} can be used: {reason}")
    return rows, rejected


def _parse_row(line: str, num_classes: int) -> tuple[str, int]:
    """Return the file name without suffix, and the label of a row.

    Raises:
        ValueError: the row cannot be used, with the reason.
    """
    fields = _ROW.fullmatch(line)
    stem = Path(fields[1]).stem if fields else ""
    is_name = _CHIP_NAME.fullmatch(stem) or _SHIP_NAME.fullmatch(stem)
    if not fields or not is_name or int(fields[2]) >= num_classes:
        raise ValueError(
            "the row is not `name label`, with a name Ship_CxxSyyNzzzz or L<image>_<k>"
            f" and a label from 0 to {num_classes - 1}"
        )
    return stem, int(fields[2])
