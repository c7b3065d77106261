"""Write small FUSAR-Ship and SRSDD archives of noise that contain the names of the
FUSRS lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from rsft.data.datasets.formats.fusrs_classes import CLASSES
from rsft.data.datasets.fusrs import FUSRSListRow
from tests.data.datasets.fusar_ship.data import write_fusar
from tests.data.datasets.srsdd.data import write_srsdd

ANNOTATED = {
    "cargo": "Cell-Container",
    "other": "LawEnforce",
    "fishing": "Fishing",
    "tanker": "ore-oil",
}
ANNOTATED["dredger"] = "Dredger"
"""SRSDD class of each FUSRS class."""


def write_for_lists(
    root: Path, rows: Iterable[FUSRSListRow], classes: int
) -> tuple[Path, Path]:
    """Write both archives with every name in `rows`; ships that no row names are
    fishing vessels."""
    rows = list(rows)
    ships: dict[int, dict[int, str]] = defaultdict(dict)
    for row in rows:
        if row.image is not None:
            ships[row.image][int(row.name.split("_")[1])] = ANNOTATED[
                CLASSES[classes][row.label]
            ]
    images = {
        image: [x.get(number, "Fishing") for number in range(1, max(x) + 1)]
        for image, x in ships.items()
    }
    names = [row.name for row in rows if row.category is not None]
    return write_fusar(root / "FUSAR", names), write_srsdd(root / "SRSDD", images)
