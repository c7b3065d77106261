"""Write small DOTA trees of noise images and label files: python data.py FOLDER writes
TorchGeo's archives."""

from __future__ import annotations

import csv
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "imagesource:GoogleEarth\ngsd:0.5\n"
VERSIONS = ("1.0", "1.5", "2.0")


def row(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    category: str = "plane",
    difficult: int = 0,
) -> str:
    """Return the label row of a horizontal box."""
    return f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {category} {difficult}\n"


def write_image(
    path: Path, size: tuple[int, int] = (80, 60), mode: str = "RGB", seed: int = 0
) -> np.ndarray:
    """Write an image of noise and return its pixels (H, W, B); `size` is width,
    height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    pixels = np.random.default_rng(seed).integers(
        0, 256, (size[1], size[0], bands), dtype=np.uint8
    )
    image = Image.fromarray(pixels if bands > 1 else pixels[..., 0])
    (image.convert("I;16") if mode == "I;16" else image).save(path)
    return pixels


def write_pair(
    root: Path,
    labels: str | bytes,
    stem: str = "P1",
    labels_in: str = "labelTxt",
    mode: str = "RGB",
    seed: int = 0,
) -> np.ndarray:
    """Write images/<stem>.png, 80 x 60 pixels, and its label file."""
    path = root / labels_in / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return write_image(root / f"images/{stem}.png", mode=mode, seed=seed)


def write_torchgeo_tree(root: Path, *, archives: bool = False) -> Path:
    """Write the tree that TorchGeo extracts: two images per split, of which the second
    has an object per version.

    Args:
        root: the folder.
        archives: write the archives too. As in the tests of TorchGeo, an archive
            repeats the files of older versions, and the images of each version have
            other pixels.
    """
    table = [("image_path", "annotation_path", "split", "version")]
    for number, version in enumerate(VERSIONS):
        for split, category in (("train", "plane"), ("val", "ship")):
            labels_in = f"annotations/version{version}"
            write_pair(root / split, HEADER, "P0000", labels_in, seed=number)
            write_pair(
                root / split,
                HEADER + row(10, 10, 30 + number, 20, category),
                "P0001",
                labels_in,
                seed=number,
            )
            for stem in ("P0000", "P0001"):
                table.append(
                    (
                        f"{split}/images/{stem}.png",
                        f"{split}/{labels_in}/{stem}.txt",
                        split,
                        version,
                    )
                )
            for part in ("images", "annotations") if archives else ():
                with tarfile.open(
                    root / f"dotav{version}_{part}_{split}.tar.gz", "w:gz"
                ) as file:
                    file.add(root / split / part, f"{split}/{part}")
    with (root / "samples.csv").open("w", newline="") as samples:
        csv.writer(samples).writerows(table)
    return root


def write_torchgeo_archives(root: Path) -> Path:
    """Write the archives of `write_torchgeo_tree` and samples.csv, without the
    extracted files."""
    write_torchgeo_tree(root, archives=True)
    for split in ("train", "val"):
        shutil.rmtree(root / split)
    return root


if __name__ == "__main__":
    write_torchgeo_archives(Path(sys.argv[1]))
