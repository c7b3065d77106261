"""Time DOTA cropping in three ways.

python -m tools.benchmarks.crops [--objects 500] [--side 1024] [--rounds 3]

Three methods make the same crops of one image in turn, each with one process. The table
shows medians.

- by object: PIL opens the image for every object, crops and saves, as many DOTA scripts
  do;
- floor: the image is decoded once and the crops are encoded, without any other work;
- rsft: the records of `prepare_dota`, from their windows to files with a hash.

A whole run of `prepare_dota` (label files, journal, manifest, figures) is timed too.
All files are in memory (/dev/shm) if the machine has it, because creating 500 files on
a busy disk can take longer than cropping them.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.table import Table

from rsft.cli.display.console import console
from rsft.data.chips.chip_content import encode_chip, write_chip
from rsft.data.datasets.dota import (
    DOTAObject,
    DOTAObjects,
    crop_object,
    read_rgb,
)
from rsft.data.datasets.dota_records import make_crop_record
from rsft.data.prepare.dota import prepare_dota
from tools.errors import explained_errors

MIN_SPEEDUP = 10.0
MAX_OVERHEAD = 1.3
"""Targets: lowest speed relative to "by object", highest time relative to "floor"."""

FAST_REPEATS = (
    5  # runs of floor and rsft per round; they take 1 % of the time of the others
)

_MEMORY = Path("/dev/shm")

CropMethod = Callable[[list[DOTAObject], Path], None]


def write_tree(root: Path, side: int, objects: int, seed: int = 0) -> None:
    """Write one image of `side` x `side` pixels (smooth ground with noise) and rotated boxes of 12 to 80 pixels."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(
        rng.uniform(40, 200, (side // 64, side // 64, 3)),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    pixels = np.clip(ground + rng.normal(0, 4, ground.shape), 0, 255).astype(np.uint8)
    rows = []
    for center in rng.uniform(60, side - 60, (objects, 2)):
        corners = cv2.boxPoints(
            (
                center.tolist(),
                rng.uniform(12, 80, 2).tolist(),
                float(rng.uniform(0, 90)),
            )
        )
        rows.append(
            " ".join(str(int(value)) for value in corners.ravel()) + " plane 0\n"
        )
    for name in ("images", "labelTxt"):
        (root / "train" / name).mkdir(parents=True)
    cv2.imwrite(str(root / "train/images/P0.png"), pixels)
    (root / "train/labelTxt/P0.txt").write_text("".join(rows))


def by_object(objects: list[DOTAObject], out: Path) -> None:
    """Open the image, crop and save, for every object."""
    for item in objects:
        Image.open(item.image.path).convert("RGB").crop(item.window).save(
            out / f"{item.name}.png"
        )


def floor(objects: list[DOTAObject], out: Path) -> None:
    """Decode the image once and encode every crop."""
    pixels = read_rgb(objects[0].image.path)
    for item in objects:
        encode_chip(crop_object(item, pixels))


def rsft(objects: list[DOTAObject], out: Path) -> None:
    """Write the files of all records like a store build."""
    for item in objects:
        record = make_crop_record(item, "train", "1.0")
        assert record.read_pixels is not None
        data, suffix = encode_chip(record.read_pixels())
        hashlib.sha256(data)
        write_chip(out / f"{record.path_stem}{suffix}", data)


def whole_build(objects: list[DOTAObject], out: Path) -> None:
    """Run `prepare_dota`, including the reading of labels."""
    prepare_dota(out.parent / "src", out, jobs=1)


def measure(objects: int = 500, side: int = 1024, rounds: int = 3) -> dict[str, float]:
    """Return the median seconds of each method and of a whole build."""
    methods: dict[str, CropMethod] = {
        "by object": by_object,
        "floor": floor,
        "rsft": rsft,
        "whole build": whole_build,
    }
    turns = ["by object", *["floor", "rsft"] * FAST_REPEATS, "whole build"]
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory(
        dir=_MEMORY if _MEMORY.is_dir() else None
    ) as folder:
        write_tree(Path(folder, "src"), side, objects)
        for number in range(rounds):
            for turn, name in enumerate(turns):
                work = Path(folder, f"{number} {turn}")
                # a new path is not in the image cache
                shutil.copytree(Path(folder, "src"), work / "src")
                objects_found = DOTAObjects(work / "src").objects
                (work / "out").mkdir()
                start = time.perf_counter()
                methods[name](objects_found, work / "out")
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the medians and both ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("objects", 500), ("side", 1024), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args(argv)
    seconds = measure(**vars(arguments))
    table = Table(
        title=(
            f"{arguments.objects} crops of one {arguments.side} x {arguments.side}"
            " image, median seconds"
        )
    )
    for column in ("method", "seconds", "relative to floor"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{value / seconds['floor']:.2f}")
    console.print(table)
    console.print(
        f"by object / rsft: {seconds['by object'] / seconds['rsft']:.1f} (target: at"
        f" least {MIN_SPEEDUP:g})"
    )
    console.print(
        f"rsft / floor: {seconds['rsft'] / seconds['floor']:.2f} (target: at most"
        f" {MAX_OVERHEAD:g})"
    )


if __name__ == "__main__":
    with explained_errors():
        main()
