"""Write a small DOTA tree of noise images and label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "imagesource:GoogleEarth\ngsd:0.5\n"


def row(x1: float, y1: float, x2: float, y2: float, category: str = "plane", difficult: int = 0) -> str:
    """Return the label row of a horizontal box."""
    return f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {category} {difficult}\n"


def write_image(path: Path, size: tuple[int, int] = (80, 60), mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """Write an image of noise and return its pixels (H, W, B); `size` is width, height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    image = Image.fromarray(pixels if bands > 1 else pixels[..., 0])
    (image.convert("I;16") if mode == "I;16" else image).save(path)
    return pixels


def write_pair(
    root: Path, labels: str | bytes, stem: str = "P1", labels_in: str = "labelTxt", mode: str = "RGB", seed: int = 0
) -> np.ndarray:
    """Write images/<stem>.png, 80 x 60 pixels, and its label file."""
    path = root / labels_in / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return write_image(root / f"images/{stem}.png", mode=mode, seed=seed)
