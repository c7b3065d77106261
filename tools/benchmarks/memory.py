"""Builds a store of simulated chips and prints the peak memory of this process in MB; for tools/benchmarks/data.py.

python -m tools.benchmarks.memory ROOT CHIPS
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from rsft.data.chips.builder import ChipRecord, StoreDescription, build_store
from rsft.types import Pixels

CLASSES = ("cargo", "fishing", "tanker", "dredger")


def simulated(count: int) -> Iterator[ChipRecord]:
    """Records as a source gives them, one after the other."""
    for index in range(count):
        facts = {"source": "simulated", "spacing_m": 1.0, "mmsi": str(9 * 10**8 + index), "box": [float(index)] * 8}
        label = CLASSES[index % len(CLASSES)]
        yield ChipRecord(f"{index:06}", "train", label, Path(f"{index}.txt"), partial(noise, index), 1, None, facts)


def noise(seed: int) -> Pixels:
    """(64, 64, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 1), np.uint8)


def peak() -> float:
    """Of this process, in MB; unlike getrusage, without what its parent had at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main(root: Path, count: int) -> None:
    """Build, print, remove."""
    build_store(root, simulated(count), StoreDescription("memory", CLASSES, "memory"))
    print(peak())
    shutil.rmtree(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
