"""Make small pictures of scenes for the review page and the map."""

from __future__ import annotations

import cv2
import numpy as np
from rasterio.enums import Resampling

from rsft.data.imagery.open_raster import open_raster
from rsft.data.imagery.products.stored_values import is_complex
from rsft.inference.scenes.raster import RasterScene, ignore_georeference_warnings
from rsft.types import Bytes

_PERCENTILES = (1, 99)


def scene_thumbnail(scene: RasterScene, side: int) -> bytes:
    """Encode the first band of a scene as a JPEG, see `scene_pixels`.

    Args:
        scene: the scene.
        side: largest side of the picture in pixels.

    Returns:
        The JPEG.
    """
    return bytes(cv2.imencode(".jpg", scene_pixels(scene, side), [cv2.IMWRITE_JPEG_QUALITY, 75])[1])


def scene_pixels(scene: RasterScene, side: int) -> Bytes:
    """Read the first band of a scene, stretched between the 1st and 99th percentile of the stored values.

    Complex values become their modulus. Single pixels are taken then, because the mean of complex values is about 0.

    Args:
        scene: the scene.
        side: largest side of the picture in pixels.

    Returns:
        Bytes (H, W); pixels without data are 0.
    """
    scale = min(1.0, side / max(scene.height, scene.width))
    size = max(1, round(scene.height * scale)), max(1, round(scene.width * scale))
    with ignore_georeference_warnings(), open_raster(scene.files[0]) as file:
        resampling = Resampling.nearest if is_complex(file.dtypes[0]) else Resampling.average
        band = file.read(1, out_shape=size, resampling=resampling, masked=True).filled(0)
    values = np.asarray(np.abs(band) if np.iscomplexobj(band) else band, np.float32)
    has_data = np.isfinite(values) & (values != 0)
    low, high = np.percentile(values[has_data], _PERCENTILES) if has_data.any() else (0.0, 1.0)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.where(has_data, np.rint(255 * scaled), 0).astype(np.uint8)
