"""Write small products of other sensors, in the layout and with the elements of their specifications."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rsft.inference.scenes.raster import PixelWindow, RasterScene, SceneReader
from tests.helpers.scenes import UTM, ground_control_points, write_geotiff

SHAPE = 60, 80
DN = np.random.default_rng(0).integers(0, 40_000, SHAPE).astype(np.uint16)
"""Digital numbers; some are 0, which means no data."""
DN[:3, :4] = 0


def elements(tree: Mapping[str, object]) -> str:
    """Return XML: a key is a tag with attributes, a value is text, the elements below, or a list of such values."""
    texts = []
    for tag, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            inner = elements(item) if isinstance(item, dict) else str(item)
            texts.append(f"<{tag}>{inner}</{tag.split()[0]}>")
    return "".join(texts)


def write_xml(path: Path, tree: Mapping[str, object]) -> None:
    """Write an XML file with the elements of `elements`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{elements(tree)}', encoding="utf-8")


def write_image(path: Path, pixels: np.ndarray = DN, gcps: bool = True) -> Path:
    """Write a GeoTIFF with ground control points, or with a geotransform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    points = ground_control_points(UTM, *pixels.shape[:2], "EPSG:32633")
    return write_geotiff(
        path, pixels, **({"crs": "EPSG:4326", "gcps": points} if gcps else {"crs": "EPSG:32633", "transform": UTM})
    )


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def state_vectors(names: Sequence[str], velocity: tuple[float, float, float]) -> list[dict[str, object]]:
    """Return two state vectors of one velocity, whose elements have the given names."""
    return [dict(zip(names, velocity, strict=True))] * 2


def read_band(scene: RasterScene, unit: str, band: int = 0) -> np.ndarray:
    """Return a band of a scene in a unit, in float64."""
    reader = SceneReader(scene.in_unit(unit))
    pixels = reader(PixelWindow(0, 0, scene.height, scene.width))[:, :, band]
    reader.close()
    return pixels.astype(np.float64)


def check_band(actual: np.ndarray, expected: np.ndarray, dn: np.ndarray = DN) -> None:
    """Check values to 1e-5 where there are data, and NaN where the digital number is 0."""
    assert np.isnan(actual[dn == 0]).all()
    np.testing.assert_allclose(actual[dn != 0], expected[dn != 0], rtol=1e-5)
