"""Write a small SRSDD-v1.0 archive of noise in the published format: python data.py
FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "imagesource:GF3\ngsd:1\n"


def write_srsdd(
    root: Path,
    images: Mapping[int, Sequence[str]],
    *,
    size: int = 96,
    header: str = "",
    seed: int = 0,
) -> Path:
    """Write one image per key with a ship of each class; the boxes are below each
    other."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for image, classes in images.items():
        pixels = np.random.default_rng(10**6 * (seed + 1) + image).integers(
            0, 255, (size, size), np.uint8
        )
        Image.fromarray(pixels).save(root / "images" / f"{image}.png")
        tops = np.linspace(2, size - 12, len(classes))
        rows = [
            f"10 {top:.1f} 50 {top:.1f} 50 {top + 8:.1f} 10 {top + 8:.1f} {name} 0\n"
            for top, name in zip(tops, classes, strict=True)
        ]
        (root / "labels" / f"{image}.txt").write_text(header + "".join(rows), "utf-8")
    return root


if __name__ == "__main__":
    write_srsdd(
        Path(sys.argv[1], "train"),
        {1: ["Cell-Container", "Fishing"], 2: ["ore-oil"]},
        header=HEADER,
    )
    write_srsdd(Path(sys.argv[1], "test"), {3: ["Dredger"]}, header=HEADER)
