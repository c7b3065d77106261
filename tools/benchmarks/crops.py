"""DOTA cropping, timed: python -m tools.benchmarks.crops [--objects 500] [--side 1024] [--rounds 3]

Three ways to make the same crops of one image, in turns, medians of the rounds, one process each:

- by object: the image is opened with PIL for every object, cropped and saved, as scripts around DOTA do;
- the floor: the image is decoded once and the crops are encoded, and nothing else;
- rsft: `prepare_dota`'s records, from their windows to files with a hash.

The whole of `prepare_dota` (label files, journal, manifest, figures) is timed beside them. All of it happens in memory
(/dev/shm) where the machine has it: creating 500 files on a busy disk may cost more than cropping them.
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
from rsft.data.chips.builder import write_chip
from rsft.data.chips.encode import encode_chip
from rsft.data.datasets.dota import DOTAObject, DOTAObjects, crop_object, read_rgb
from rsft.data.prepare.dota import make_crop_record, prepare_dota

FASTER, NEAR = 10.0, 1.3
"""What is wanted: at least so many times faster than by object, at most so many times the floor."""

QUICK = 5  # turns of the floor and of rsft in a round: they take a hundredth of the time of the others

_MEMORY = Path("/dev/shm")

Way = Callable[[list[DOTAObject], Path], None]


def write_tree(root: Path, side: int, objects: int, seed: int = 0) -> None:
    """One image of `side` x `side` pixels, smooth ground under noise, with rotated boxes of 12 to 80 pixels."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.uniform(40, 200, (side // 64, side // 64, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(ground + rng.normal(0, 4, ground.shape), 0, 255).astype(np.uint8)
    rows = []
    for centre in rng.uniform(60, side - 60, (objects, 2)):
        corners = cv2.boxPoints((centre.tolist(), rng.uniform(12, 80, 2).tolist(), float(rng.uniform(0, 90))))
        rows.append(" ".join(str(int(value)) for value in corners.ravel()) + " plane 0\n")
    for name in ("images", "labelTxt"):
        (root / "train" / name).mkdir(parents=True)
    cv2.imwrite(str(root / "train/images/P0.png"), pixels)
    (root / "train/labelTxt/P0.txt").write_text("".join(rows))


def by_object(objects: list[DOTAObject], out: Path) -> None:
    """Open, crop, save; for every object again."""
    for item in objects:
        Image.open(item.image.path).convert("RGB").crop(item.window).save(out / f"{item.name}.png")


def floor(objects: list[DOTAObject], out: Path) -> None:
    """Decode once, encode every crop."""
    pixels = read_rgb(objects[0].image.path)
    for item in objects:
        encode_chip(crop_object(item, pixels))


def rsft(objects: list[DOTAObject], out: Path) -> None:
    """From records to files, as a build does it."""
    for item in objects:
        record = make_crop_record(item, "train", "1.0")
        assert record.read_pixels is not None
        data, suffix = encode_chip(record.read_pixels())
        hashlib.sha256(data)
        write_chip(f"{out}/{record.path_stem}{suffix}", data)


def whole_build(objects: list[DOTAObject], out: Path) -> None:
    """All of `prepare_dota`, reading the labels included."""
    prepare_dota(out.parent / "src", out, jobs=1)


def measure(objects: int = 500, side: int = 1024, rounds: int = 3) -> dict[str, float]:
    """Median seconds of each way, and of a whole build."""
    ways: dict[str, Way] = {"by object": by_object, "floor": floor, "rsft": rsft, "whole build": whole_build}
    turns = ["by object", *["floor", "rsft"] * QUICK, "whole build"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        write_tree(Path(folder, "src"), side, objects)
        for number in range(rounds):
            for turn, name in enumerate(turns):
                work = Path(folder, f"{number} {turn}")
                shutil.copytree(Path(folder, "src"), work / "src")  # a new path: no image is held from the last turn
                found = DOTAObjects(work / "src").objects
                (work / "out").mkdir()
                start = time.perf_counter()
                ways[name](found, work / "out")
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Print the medians and both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("objects", 500), ("side", 1024), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args(words)
    seconds = measure(**vars(arguments))
    table = Table(title=f"{arguments.objects} crops of one {arguments.side} x {arguments.side} image, median seconds")
    for column in ("way", "seconds", "against the floor"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", f"{value / seconds['floor']:.2f}")
    console.print(table)
    console.print(f"by object / rsft: {seconds['by object'] / seconds['rsft']:.1f} (wanted: at least {FASTER:g})")
    console.print(f"rsft / floor: {seconds['rsft'] / seconds['floor']:.2f} (wanted: at most {NEAR:g})")


if __name__ == "__main__":
    main()
