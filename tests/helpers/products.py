"""Write small products of other sensors, in the layout and with the elements of their
specifications."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pyproj import Transformer

from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.scenes.reader import SceneReader
from tests.helpers.scenes import UTM, ground_control_points, write_geotiff

SHAPE = 60, 80
DN = np.random.default_rng(0).integers(0, 40_000, SHAPE).astype(np.uint16)
"""Digital numbers; some are 0, which means no data."""
DN[:3, :4] = 0


def elements(tree: Mapping[str, object]) -> str:
    """Return XML: a key is a tag with attributes, a value is text, the elements below,
    or a list of such values."""
    texts = []
    for tag, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            inner = elements(item) if isinstance(item, dict) else str(item)
            texts.append(f"<{tag}>{inner}</{tag.split()[0]}>")
    return "".join(texts)


def write_xml(path: Path, tree: Mapping[str, object]) -> None:
    """Write an XML file with the elements of `elements`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{elements(tree)}',
        encoding="utf-8",
    )


def write_image(path: Path, pixels: np.ndarray = DN, gcps: bool | None = True) -> Path:
    """Write a GeoTIFF with ground control points, with a geotransform, or with neither
    if `gcps` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if gcps is None:
        return write_geotiff(path, pixels)
    points = ground_control_points(UTM, *pixels.shape[-2:], "EPSG:32633")
    return write_geotiff(
        path,
        pixels,
        **(
            {"crs": "EPSG:4326", "gcps": points}
            if gcps
            else {"crs": "EPSG:32633", "transform": UTM}
        ),
    )


def tie_points() -> list[tuple[float, float, float, float]]:
    """Return row, column, longitude and latitude of the centers of pixels in a grid."""
    rows, cols = (np.linspace(0, size - 1, 5) for size in SHAPE)
    to_lonlat = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    return [
        (r, c, *to_lonlat.transform(*(UTM @ (c + 0.5, r + 0.5))))
        for r in rows
        for c in cols
    ]


def check_tie_points(scene: RasterScene) -> None:
    """Check that a scene lies where `tie_points` are, to a tenth of a pixel."""
    assert (
        scene.georeference is not None
        and "25 ground control points" in scene.georeference.description
    )
    for row, col, lon, lat in tie_points():
        assert (
            np.abs(
                scene.georeference.lonlat_to_pixels(lon, lat)[0]
                - (row + 0.5, col + 0.5)
            ).max()
            < 0.1
        )


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def state_vectors(
    names: Sequence[str], velocity: tuple[float, float, float]
) -> list[dict[str, object]]:
    """Return two state vectors of one velocity, whose elements have the given names."""
    return [dict(zip(names, velocity, strict=True))] * 2


def read_band(scene: RasterScene, unit: str, band: int = 0) -> np.ndarray:
    """Return a band of a scene in a unit, in float64."""
    reader = SceneReader(scene.in_unit(unit))
    pixels = reader(PixelWindow(0, 0, scene.height, scene.width))[:, :, band]
    reader.close()
    return pixels.astype(np.float64)


def check_band(actual: np.ndarray, expected: np.ndarray, dn: np.ndarray = DN) -> None:
    """Check values to 1e-5 where there are data, and NaN where the digital number is
    0."""
    assert np.isnan(actual[dn == 0]).all()
    np.testing.assert_allclose(actual[dn != 0], expected[dn != 0], rtol=1e-5)
