"""The data sets whose archives `rsft prepare` finds: how to recognize them, and where they are published."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsft.data.datasets._fusar_files import is_fusar_chip
from rsft.data.datasets._srsdd_files import has_box, is_srsdd_label_file
from rsft.data.datasets.archive_search import PublishedArchive, iter_paths
from rsft.errors import RequestError
from rsft.utils.archives import describe_part

_DOTA_NAME = re.compile(r"P\d+(__.*)?")  # of an image, or of a tile of it


def _is_dota_label_file(path: Path) -> bool:
    return (
        path.suffix.lower() == ".txt"
        and _DOTA_NAME.fullmatch(path.stem) is not None
        and has_box(path)
    )


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
OPENSARSHIP_ARCHIVE = PublishedArchive(
    name="OpenSARShip",
    command="opensarship",
    option="SOURCE",
    word="opensarship",
    is_member=lambda path: path.name.lower() == "ship.xml",
    content="scenes with Patch_Uint8/ and Ship.xml",
    download=(
        "version 1.0 or 2.0, OpenSARShip_1.zip or OpenSARShip_2.zip, from"
        " https://opensar.sjtu.edu.cn"
    ),
)
CIFAR_100_ARCHIVE = PublishedArchive(
    name="CIFAR-100",
    command="cifar100-lt",
    option="SOURCE",
    word="cifar100",
    is_member=lambda path: (
        path.name in ("cifar-100-python", "aquarium_fish")
    ),  # pickles, or the folder of a class
    content="cifar-100-python/, or train/ and test/ with class folders",
    download=(
        "cifar-100-python.tar.gz, 169 MB, from"
        " https://www.cs.toronto.edu/~kriz/cifar.html"
    ),
)
PLACES_LT_ARCHIVE = PublishedArchive(
    name="Places365",
    command="places-lt",
    option="SOURCE",
    word="places",
    is_member=lambda path: path.name == "Places_LT_train.txt",
    content="the images of Places365 and the list Places_LT_train.txt",
    download=(
        "places365standard_easyformat.tar, 24 GB, from"
        " http://places2.csail.mit.edu/download.html, and the lists from"
        " https://github.com/zhmiao/OpenLongTailRecognition-OLTR"
    ),
    is_unpacked=False,
)
INATURALIST_2018_ARCHIVE = PublishedArchive(
    name="iNaturalist 2018",
    command="inat2018",
    option="SOURCE",
    word="inat",
    is_member=lambda path: path.name == "train_val2018",
    content="train_val2018/",
    download=(
        "train_val2018.tar.gz, 120 GB, from"
        " https://github.com/visipedia/inat_comp/tree/master/2018"
    ),
    is_unpacked=False,
)
ARCHIVES = (
    FUSAR_SHIP_ARCHIVE,
    SRSDD_ARCHIVE,
    DOTA_ARCHIVE,
    OPENSARSHIP_ARCHIVE,
    CIFAR_100_ARCHIVE,
    PLACES_LT_ARCHIVE,
    INATURALIST_2018_ARCHIVE,
)


@contextmanager
def explain_wrong_source(archive: PublishedArchive, folder: Path) -> Iterator[None]:
    """Add to a RequestError of the block what a folder contains instead of the data set: another one, or a part.

    Args:
        archive: the data set that the block reads.
        folder: the folder, with its archives extracted.
    """
    try:
        yield
    except RequestError as error:
        notes = [fault for fault in map(describe_part, iter_paths(folder)) if fault][:1]
        for other in ARCHIVES:
            if other != archive and other.is_in(folder):
                command = f"`rsft prepare {other.command}`"
                if other.option.startswith("--"):
                    option = f" for {other.option}"
                else:
                    option = ""
                notes.append(
                    f"the folder contains {other.name}, which {command} reads{option}"
                )
                if other.command == archive.command:
                    notes[-1] = (
                        f"the folder contains {other.name}: exchange {archive.option}"
                        f" and {other.option}"
                    )
        error.hint = "; ".join([*notes, error.hint])
        raise
