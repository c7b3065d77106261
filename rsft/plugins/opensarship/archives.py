"""How to recognize the archive of OpenSARShip, and where it is published."""

from rsft.data.datasets.archive_search import PublishedArchive

OPENSARSHIP_ARCHIVE = PublishedArchive(
    name="OpenSARShip",
    command="opensarship",
    option="SOURCE",
    word="opensarship",
    is_member=lambda path: path.name.lower() == "ship.xml",
    content="scenes with Patch_Uint8/, Patch_Cal/ or Patch/, and Ship.xml",
    download=(
        "version 1.0 or 2.0, OpenSARShip_1.zip or OpenSARShip_2.zip, from"
        " https://opensar.sjtu.edu.cn"
    ),
)
