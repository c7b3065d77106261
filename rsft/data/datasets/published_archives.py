"""How to recognize the archives of data sets, and where they are published."""

import re
from pathlib import Path

from rsft.data.datasets.archive_search import PublishedArchive
from rsft.data.datasets.formats.box_labels import has_box
from rsft.data.datasets.formats.fusar_files import is_fusar_chip
from rsft.data.datasets.formats.srsdd_files import is_srsdd_label_file
from rsft.utils.registry import entry_points_of

_DOTA_NAME = re.compile(r"P\d+(__.*)?")  # of an image, or of a tile of it


def _is_dota_label_file(path: Path) -> bool:
    has_name = path.suffix.lower() == ".txt" and _DOTA_NAME.fullmatch(path.stem)
    return bool(has_name) and has_box(path)


FUSAR_SHIP_ARCHIVE = PublishedArchive(
    name="FUSAR-Ship",
    command="fusrs",
    option="--fusar",
    word="fusar",
    is_member=is_fusar_chip,
    content=(
        "folders Cargo, DiveVessel, Dredger and so on with files Ship_CxxSyyNzzzz.tiff"
        " or .png"
    ),
    download=(
        "version 1.0, folder FUSAR_Ship1.0: 16,144 chips of 512 x 512 pixels, 4.2 GB"
        " with 8 bits, from https://emwlab.fudan.edu.cn/67/05/c20899a222981/page.htm"
    ),
)
SRSDD_ARCHIVE = PublishedArchive(
    name="SRSDD",
    command="fusrs",
    option="--srsdd",
    word="srsdd",
    is_member=is_srsdd_label_file,
    content="images with label files of rotated boxes",
    download=(
        "version 1.0, folder SRSDD-V1.0: 666 images of 1024 x 1024 pixels, 0.7 GB with"
        " 8 bits, from the link in https://doi.org/10.3390/rs13245104"
    ),
)
DOTA_ARCHIVE = PublishedArchive(
    name="DOTA",
    command="dota",
    option="SOURCE",
    word="dota",
    is_member=_is_dota_label_file,
    content=(
        "train/ and val/, or images/ and labelTxt/, with files P0000.png and P0000.txt"
    ),
    download=(
        "version 1.0: 2,806 images with their labels, from"
        " https://captain-whu.github.io/DOTA/dataset.html"
    ),
)
ARCHIVES = (FUSAR_SHIP_ARCHIVE, SRSDD_ARCHIVE, DOTA_ARCHIVE)


def list_archives() -> list[PublishedArchive]:
    """Return the data sets of rsft, and those of the entry points `rsft.archives`."""
    points = entry_points_of("rsft.archives")
    return [*ARCHIVES, *(point.load() for point in points.values())]
