"""Build a store of random chips and print the peak memory of this process in MB; used by tools/benchmarks/data.py.

python -m tools.benchmarks.memory ROOT CHIPS
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.types import Pixels

CLASSES = ("cargo", "fishing", "tanker", "dredger")


def random_records(count: int) -> Iterator[ChipRecord]:
    """Yield records one by one."""
    for index in range(count):
        columns = {
            "source": "simulated",
            "spacing_m": 1.0,
            "mmsi": str(9 * 10**8 + index),
            "box": [float(index)] * 8,
        }
        label = CLASSES[index % len(CLASSES)]
        yield ChipRecord(
            f"{index:06}",
            "train",
            label,
            Path(f"{index}.txt"),
            partial(random_chip, index),
            1,
            None,
            columns,
        )


def random_chip(seed: int) -> Pixels:
    """Return a chip (64, 64, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 1), np.uint8)


def peak_memory() -> float:
    """Return the peak memory of this process in MB; getrusage would include that of its parent at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(
        int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")
    )


def main(root: Path, count: int) -> None:
    """Build the store, print the peak memory, remove the store."""
    build_store(
        root, random_records(count), StoreDescription("memory", CLASSES, "memory")
    )
    print(peak_memory())
    shutil.rmtree(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
