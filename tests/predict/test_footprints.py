"""Outlines in longitude and latitude, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from rsft.predict.footprints import footprint

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def chip(folder: Path, crs: str | None, transform: Affine | None) -> Path:
    path = folder / "chip.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 32, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
        file.write(np.zeros((1, 32, 64), np.uint8))
    return path


def test_utm_chip(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:32633", UTM))
    assert outline is not None
    assert outline.bounds == pytest.approx((15.0, 45.150596, 15.008142, 45.153477), abs=1e-6)


def test_turned_chip_keeps_its_corners(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:4326", Affine(0.001, 0.0005, 20, 0.0003, -0.001, 50)))
    assert outline is not None
    assert outline.equals_exact(
        shapely.Polygon([(20, 50), (20.016, 49.968), (20.08, 49.9872), (20.064, 50.0192)]), 1e-9
    )


def test_cut_at_the_antimeridian(tmp_path: Path) -> None:
    outline = footprint(chip(tmp_path, "EPSG:32660", Affine(10, 0, 833_900, 0, -10, 100_000)))
    assert outline is not None
    assert outline.geom_type == "MultiPolygon"
    assert outline.area < 0.0001


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, UTM),
        ("EPSG:32633", None),
        ('LOCAL_CS["plane",UNIT["metre",1]]', UTM),
        ("EPSG:32633", Affine(10, 0, 5e15, 0, -10, 5e16)),
        ("EPSG:4326", Affine(1, 0, 200, 0, -1, 95)),
    ],
)
def test_no_usable_georeference(tmp_path: Path, crs: str | None, transform: Affine | None) -> None:
    assert footprint(chip(tmp_path, crs, transform)) is None


def test_no_image(tmp_path: Path) -> None:
    assert footprint(tmp_path / "absent.png") is None
