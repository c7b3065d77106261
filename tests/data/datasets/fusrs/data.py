"""Write a small FUSRS dataset of noise, both archives and the lists: python data.py
FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.data.datasets.fusar_ship.data import write_fusar
from tests.data.datasets.srsdd.data import write_srsdd

LISTS = {
    "v25_train.txt": (
        "L1_1.png 0\nShip_C07S11N0002.png 0\nShip_C07S11N0002.png 0\nL9_1.png"
        " 0\nbroken\n"
    ),
    "v25_test.txt": "L1_2.png 1\nShip_C12S01N0001.png 2\n",
    "v17_train.txt": "Ship_C01S01N0001.png 1\n",
    "v17_test.txt": "L2_1.png 4\n",
}


def write_fusrs(root: Path) -> Path:
    """Write both archives and the four lists."""
    write_fusar(
        root / "FUSAR-Ship",
        ["Ship_C07S11N0002", "Ship_C12S01N0001", "Ship_C01S01N0001"],
    )
    write_srsdd(root / "SRSDD/train", {1: ["Container", "Fishing"]})
    write_srsdd(root / "SRSDD/test", {2: ["Dredger"]})
    for name, rows in LISTS.items():
        (root / name).write_text(rows, "utf-8")
    return root


if __name__ == "__main__":
    write_fusrs(Path(sys.argv[1]))
