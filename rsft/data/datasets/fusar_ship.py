"""FUSAR-Ship dataset."""

import torch
from torchgeo.datasets.errors import DatasetNotFoundError

from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES, FUSARChips
from rsft.data.datasets.formats.text_files import PathOrText
from rsft.data.datasets.images import LabeledImages, Sample, Transforms, load_gray_image


class FUSARShip(LabeledImages):
    """FUSAR-Ship dataset.

    `FUSAR-Ship <https://doi.org/10.1007/s11432-019-2772-5>`__ 1.0 is a dataset for ship
    classification. Its chips were cut from images of the SAR satellite Gaofen-3 and
    matched to messages of the Automatic Identification System (AIS).

    Dataset features:

    * 512 x 512 px, single band, 8 or 16 bits, C band, pixels of about 1.7 x 1.1 m
    * ship in the center of the chip
    * MMSI, length and width of the ship, polarization and look angle in a table

    Dataset format:

    * chips are TIFF files <category>/<subcategory>/Ship_CxxSyyNzzzz.tiff, where xx is
      the number of the category
    * the table is meta.csv or meta.xls
    * folders of other targets than ships, which are left out

    Dataset classes:

    0. Cargo
    1. DiveVessel
    2. Dredger
    3. Fishing
    4. HighSpeedCraft
    5. LawEnforce
    6. Other
    7. Passenger
    8. PortTender
    9. Reserved
    10. SAR (search and rescue)
    11. Tanker
    12. Tug
    13. Unspecified
    14. WingInGrnd

    The folders may lie at any depth below *root*. Folders in train/ and test/ are
    joined, because the dataset has no published splits. Folders like cargo or
    CargoShips are recognized as well, and chips may be PNG files. A folder called SAR
    is no category if the names of its chips show that it means the kind of image. Where
    no folder determines the category, the name of the chip does. The dataset must be
    downloaded by hand.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.1007/s11432-019-2772-5

    Attributes:
        chips: the chips, sorted by path.
        skipped: number of files and rows of the tables that are left out, by reason.
        rejected: file, line (0 for the whole file) and reason of files and rows that
            cannot be used.
    """

    classes = FUSAR_CATEGORIES

    def __init__(
        self,
        root: PathOrText = "data",
        transforms: Transforms | None = None,
    ) -> None:
        """Initialize a new FUSARShip dataset instance.

        Args:
            root: root directory where dataset can be found
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version

        Raises:
            DatasetNotFoundError: If dataset is not found.
            ValueError: If a meta.csv or meta.xls is not the table of the dataset, or
                the categories in the names seem to be renumbered.
        """
        self.root = root
        self.transforms = transforms
        files = FUSARChips(root)
        if not files.chips:
            raise DatasetNotFoundError(self)
        self.chips = files.chips
        self.skipped = files.skipped
        self.rejected = files.rejected

    def __len__(self) -> int:
        """Return the number of samples in the dataset."""
        return len(self.chips)

    def load_sample(self, index: int) -> Sample:
        """Return image (1, H, W) with the values of the file, and label."""
        chip = self.chips[index]
        return {
            "image": load_gray_image(chip.path),
            "label": torch.tensor(self.classes.index(chip.category)),
        }
