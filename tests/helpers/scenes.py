"""Small scenes, and a toy bundle with a toy engine that classify chips by
brightness."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rasterio
import rasterio.shutil
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.raster import open_scene

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)
CLASSES = ("dark", "bright")


def read_footprint(path: Path) -> BaseGeometry | None:
    """Return the outline of an image in longitude and latitude; None without
    georeference."""
    scene = open_scene(path)
    corners = rectangle_corners(0, 0, scene.height, scene.width)
    return scene.georeference and scene.georeference.outline_polygons(corners[None])[0]


def toy_contract(**fields) -> Contract:
    """Return a contract for uint8 chips of one band HH, which are resized to inputs of
    8 x 8 pixels."""
    defaults = {
        "units": {"uint8": (IDENTITY_STRETCH,) * 3},
        "bands": ("HH",),
        "planes": ("HH",) * 3,
        "crop": None,
    }
    defaults |= {"size": 8, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return Contract(**(defaults | fields))


def brightness_logits(inputs: np.ndarray) -> ClassifierOutputs:
    """Return logits (-x, x) of the mean input x, which is also the feature."""
    mean = inputs.mean(axis=(1, 2, 3))[:, None]
    return ClassifierOutputs(np.concatenate([-mean, mean], 1), mean)


def brightness_calibrator() -> Calibrator:
    """Return a calibrator of `brightness_logits`, for which chips of medium brightness
    are unlike the training."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 20)
    train_labels = np.array([0, 1] * 10)

    def outputs(classes):
        mean = np.where(classes, 1.8, -1.8)[:, None] + rng.normal(
            0, 0.05, (len(classes), 1)
        )
        return ClassifierOutputs(np.concatenate([-mean, mean], 1), mean)

    validation = outputs(labels)
    train = outputs(train_labels)
    return Calibrator.fit(
        validation.logits,
        labels,
        validation.features,
        train_features=train.features,
        train_labels=train_labels,
    )


def toy_engine(infer, bundle) -> LoadedEngine:
    """Return an engine as `load_engine` does.

    Args:
        infer: from network inputs to outputs.
        bundle: holds the contract.
    """
    return LoadedEngine(infer, bundle.contract, REFERENCE)


def use_toy_model(
    patch, bundle=None, infer=brightness_logits, concurrency: int = 1
) -> None:
    """Let prediction jobs load a toy bundle and run a toy engine.

    Args:
        patch: a `pytest.MonkeyPatch`.
        bundle: the bundle, by default `toy_bundle()`.
        infer: computes the outputs of network inputs.
        concurrency: number of threads that may call `infer` at the same time.
    """
    from rsft.inference.predict import job

    patch.setattr(job.Bundle, "load", lambda folder: bundle or toy_bundle())
    patch.setattr(
        job,
        "load_engine",
        lambda bundle, *_: toy_engine(infer, bundle)._replace(concurrency=concurrency),
    )
    patch.setattr(job, "choose_engine", lambda *_: "torch")


def toy_bundle(**fields) -> SimpleNamespace:
    """Return an object with those fields of a bundle that a prediction job uses."""
    data = SimpleNamespace(root="data/ships")
    recipe = SimpleNamespace(
        name="ships", backbone=SimpleNamespace(name="toy"), data=data
    )
    defaults = {
        "classes": CLASSES,
        "train_counts": (30, 3),
        "contract": toy_contract(),
        "sha256": "0" * 64,
    }
    values = defaults | {"recipe": recipe, "calibrator": None} | fields
    counts = dict(zip(values["classes"], values["train_counts"], strict=False))
    return SimpleNamespace(counts_by_class=counts, **values)


def write_geotiff(path: Path, pixels: np.ndarray, **profile) -> Path:
    """Write a GeoTIFF and return its path.

    Args:
        path: path of the file.
        pixels: (B, H, W) or (H, W).
        profile: options of rasterio; `names`, `units`, `scales` and `offsets` of the
            bands, and `tags` of the file.
    """
    bands = pixels[None] if pixels.ndim == 2 else pixels
    names = profile.pop("names", ())
    tags = profile.pop("tags", {})
    described = {
        key: profile.pop(key)
        for key in ("units", "scales", "offsets")
        if key in profile
    }
    shape = {
        "driver": "GTiff",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
    }
    with rasterio.open(
        path, "w", **shape, **({"dtype": bands.dtype} | profile)
    ) as file:
        file.write(bands)
        file.update_tags(**tags)
        for key, values in described.items():
            setattr(file, key, values)
        for index, name in enumerate(names, 1):
            file.set_band_description(index, name)
    return path


def add_mask(path: Path, valid: np.ndarray) -> None:
    """Add a mask (H, W) of valid pixels to a GeoTIFF, inside the file."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(valid)


def write_hdf5(path: Path, pixels: np.ndarray) -> Path:
    """Write a netCDF 4 file, which is HDF5, and return its path.

    Args:
        path: path of the file, with any suffix.
        pixels: (H, W).
    """
    source, target = (
        path.with_name(f"{path.stem}-source{suffix}") for suffix in (".tif", ".nc")
    )
    rasterio.shutil.copy(
        write_geotiff(source, pixels), target, driver="netCDF", FORMAT="NC4"
    )
    source.unlink()
    return target.rename(path)


def simulate_sea(
    height: int, width: int, seed: int = 0, looks: float = 4
) -> np.ndarray:
    """Return speckled amplitude (H, W) with a mean intensity of 1, float32."""
    intensity = np.random.default_rng(seed).gamma(looks, 1 / looks, (height, width))
    return np.sqrt(intensity).astype(np.float32)


def ground_control_points(
    transform: Affine, height: int, width: int, crs: str, steps: int = 5
) -> list[GroundControlPoint]:
    """Return a grid of ground control points in longitude and latitude.

    Args:
        transform: from pixels to `crs`.
        height: number of rows.
        width: number of columns.
        crs: coordinate system of the transform.
        steps: number of points along each side.
    """
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    pixels = [
        (row, col)
        for row in np.linspace(0, height, steps)
        for col in np.linspace(0, width, steps)
    ]
    return [
        GroundControlPoint(row, col, *to_lonlat.transform(*(transform @ (col, row))))
        for row, col in pixels
    ]


SHIPS = [(100, 300), (255, 256), (400, 90)]
"""Row and column of the ships of `write_sea`."""


def write_sea(path: Path, **profile) -> Path:
    """Write a scene of 512 x 512 pixels of 10 m with three ships of 160 m."""
    sea = simulate_sea(512, 512)
    for row, col in SHIPS:
        sea[row - 2 : row + 2, col - 8 : col + 8] *= 8
    profile = profile or {"crs": "EPSG:32633", "transform": UTM}
    return write_geotiff(path, sea.astype(np.uint16) + 1, names=("HH",), **profile)
