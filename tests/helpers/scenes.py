"""Scenes and a model that tests make themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import AS_IT_IS
from rsft.inference.engines.selection import Chosen
from rsft.models.outputs import Outputs

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
CLASSES = ("dark", "bright")


def contract(**facts) -> Contract:
    """Bytes of one band HH, whole chips as 8 x 8 inputs."""
    usual = {
        "units": {"uint8": (AS_IT_IS,) * 3},
        "bands": ("HH",),
        "planes": ("HH",) * 3,
        "crop": None,
        "size": 8,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }
    return Contract(**(usual | facts))


def brightness(inputs: np.ndarray) -> Outputs:
    """Logits (-x, x) of the mean input x, which is the feature as well."""
    mean = inputs.mean(axis=(1, 2, 3))[:, None]
    return Outputs(np.concatenate([-mean, mean], 1), mean)


def chosen(engine, bundle) -> Chosen:
    """An engine in the place of `choose_engine`'s."""
    return Chosen(engine, bundle.contract, "engine: toy", {"kind": "toy"})


def bundle(**facts) -> SimpleNamespace:
    """As much of a bundle as a job looks at."""
    recipe = SimpleNamespace(name="ships", backbone=SimpleNamespace(name="toy"))
    usual = {"classes": CLASSES, "contract": contract(), "sha256": "0" * 64, "confidence": None, "recipe": recipe}
    return SimpleNamespace(**(usual | facts))


def write(path: Path, pixels: np.ndarray, **facts) -> Path:
    """A GeoTIFF of (B, H, W) or (H, W); `names` are those of the bands."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    names = facts.pop("names", ())
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", **profile, dtype=bands.dtype, **facts) as file:
        file.write(bands)
        for index, name in enumerate(names, 1):
            file.set_band_description(index, name)
    return path


def sea(height: int, width: int, seed: int = 0, looks: float = 4) -> np.ndarray:
    """Speckled amplitude (H, W) with a mean intensity of 1, float32."""
    intensity = np.random.default_rng(seed).gamma(looks, 1 / looks, (height, width))
    return np.sqrt(intensity).astype(np.float32)


def points(transform: Affine, height: int, width: int, crs: str, steps: int = 5) -> list[GroundControlPoint]:
    """Ground control points of a grid, by a transform of pixels to longitude and latitude through `crs`."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    found = []
    for row in np.linspace(0, height, steps):
        for col in np.linspace(0, width, steps):
            x, y = to_lonlat.transform(*(transform * (col, row)))
            found.append(GroundControlPoint(row=row, col=col, x=x, y=y))
    return found
