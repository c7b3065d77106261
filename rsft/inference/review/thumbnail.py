"""A scene as a small picture."""

from __future__ import annotations

import cv2
import numpy as np
import rasterio
from rasterio.enums import Resampling

from rsft.inference.scenes.raster import Scene, unplaced

_PERCENTILES = (1, 99)


def thumbnail(scene: Scene, side: int) -> bytes:
    """A JPEG of the first band, no side longer than `side` pixels, from dark to bright by percentiles."""
    scale = min(1.0, side / max(scene.height, scene.width))
    size = max(1, round(scene.height * scale)), max(1, round(scene.width * scale))
    with unplaced(), rasterio.open(scene.files[0]) as file:
        band = file.read(1, out_shape=size, resampling=Resampling.average, masked=True)
    values = np.asarray(band.filled(0), np.float32)
    known = np.isfinite(values) & (values != 0)
    low, high = np.percentile(values[known], _PERCENTILES) if known.any() else (0.0, 1.0)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    picture = np.where(known, np.rint(255 * scaled), 0).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 75])[1])
