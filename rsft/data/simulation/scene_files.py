"""Write a simulated SAR scene with a georeference, and the truth: the ships and the land in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.sar import SarSensor, amplitude_to_uint16, render_sar_scene, sample_sensor
from rsft.data.simulation.scatterers import Pose
from rsft.data.simulation.scene import place_ships, sample_coast
from rsft.data.simulation.writer import FUSAR_SPACING
from rsft.types import Floats
from rsft.utils.atomic_files import atomic_folder

SCENE_FILE, SHIPS_FILE, LAND_FILE = "scene.tif", "ships.gpkg", "land.gpkg"

SCENE_CRS = "EPSG:32631"
"""UTM zone 31 north, in which the scene lies at 0 degrees north and east: no real coast is there."""

SCENE_CLASSES: Mapping[str, int] = {"cargo": 11, "fishing": 9, "tanker": 6, "dredger": 6}
"""Number of ships by class."""

_ORIGIN = (166_000.0, 4_000.0)  # easting and northing of the upper left corner
_SHAPE = (880, 1344)  # rows and columns: 3 km x 3 km
_RENDERED = 1408  # side of the simulated image; its edges are cut off, because sidelobes continue at the opposite edge
_MARGIN = 100  # pixels between ships and the edge, so that chips lie in the scene
_CLEARANCE = 150.0  # meters between ships, so that a chip shows one of them
_GAIN = 100.0  # digital numbers per unit of amplitude, in the middle of the range of the training chips
_SEED_TAG = "RSFT_SEED"
_DESCRIPTION = "Simulated SAR image (rsft). The place is not real."


def write_scene(folder: Path, *, seed: int = 0, counts: Mapping[str, int] = SCENE_CLASSES) -> None:
    """Write a simulated scene with a coast and ships: scene.tif, ships.gpkg and land.gpkg.

    Pixel spacing, sensor, clutter and ships are like those of the FUSAR-Ship chips of `write_fusar_tree`.

    Args:
        folder: new folder; an existing one is replaced.
        seed: seed of the simulation.
        counts: number of ships by kind; a ship for which no position is free is left out.
    """
    rng = np.random.default_rng((seed, 200))
    sensor = sample_sensor(rng, FUSAR_SPACING)
    coast = sample_coast(rng, min(_extent()))
    kinds = rng.permutation([kind for kind, count in counts.items() for _ in range(count)]).tolist()
    poses = list(place_ships(kinds, coast, _extent(_MARGIN), rng, _CLEARANCE).values())
    rows, cols = (slice((_RENDERED - size) // 2, (_RENDERED + size) // 2) for size in _SHAPE)
    amplitude = render_sar_scene(poses, coast, sensor, rng, _RENDERED)[rows, cols]
    pixels = amplitude_to_uint16(amplitude, _GAIN)
    with atomic_folder(folder) as temporary:
        _write_geotiff(temporary / SCENE_FILE, pixels, sensor, seed)
        _write_layer(temporary / SHIPS_FILE, _ship_rows(poses, sensor))
        _write_layer(temporary / LAND_FILE, _land_rows(coast))


def _extent(margin: int = 0) -> tuple[float, float]:
    """Return the sides of the scene along x and y in meters, without a margin of pixels at its edges."""
    rows, cols = (size - 2 * margin for size in _SHAPE)
    return cols * FUSAR_SPACING[1], rows * FUSAR_SPACING[0]


def read_scene_seed(folder: Path) -> int | None:
    """Return the seed of a simulated scene.

    Args:
        folder: folder of the scene.

    Returns:
        The seed; None if the folder has no complete scene, or one of another simulation.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not all((folder / name).is_file() for name in (SCENE_FILE, SHIPS_FILE, LAND_FILE)):
        return None
    try:
        with rasterio.open(folder / SCENE_FILE, driver="GTiff") as file:
            seed = file.tags().get(_SEED_TAG, "")
    except RasterioError:
        return None
    return int(seed) if seed.isdecimal() else None


def _write_geotiff(path: Path, pixels: NDArray[np.uint16], sensor: SarSensor, seed: int) -> None:
    import rasterio
    from rasterio.transform import Affine

    azimuth, ground_range = sensor.spacing
    transform = Affine(ground_range, 0, _ORIGIN[0], 0, -azimuth, _ORIGIN[1])
    layout = {"driver": "GTiff", "tiled": True, "compress": "deflate", "predictor": 2}
    size = {"width": pixels.shape[1], "height": pixels.shape[0], "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", crs=SCENE_CRS, transform=transform, **layout, **size) as file:
        file.write(pixels[None])
        file.descriptions, file.units = ("HH",), ("DN",)
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION=_DESCRIPTION, **{_SEED_TAG: str(seed)})


def _ship_rows(poses: Iterable[Pose], sensor: SarSensor) -> list[dict[str, Any]]:
    """Return class, size, heading and outline of every ship; outlines enclose the deck, as it appears in the image."""
    return [
        {
            "class": pose.ship.kind,
            "length_m": round(pose.ship.length, 1),
            "beam_m": round(pose.ship.beam, 1),
            "heading_deg": round(float(90 + np.degrees(pose.heading)) % 360, 1),  # clockwise from north
            "geometry": pose.bounding_box() - (pose.ship.freeboard / sensor.tan_incidence, 0),
        }
        for pose in poses
    ]


def _land_rows(coast: Shore) -> list[dict[str, Any]]:
    return [{"kind": "land", "geometry": coast.outline(max(_extent()))}]


def _write_layer(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write polygons, whose corners are in the image frame, in the coordinate system of the scene."""
    import shapely
    from geopandas import GeoDataFrame

    (left, top), (width, height) = _ORIGIN, _extent()
    scene = shapely.box(left, top - height, left + width, top)

    def to_polygon(corners: Floats) -> Any:
        map_corners = np.array([left + width / 2, top - height / 2]) + corners * (1, -1)
        return shapely.make_valid(shapely.Polygon(map_corners)).intersection(scene)

    shapes = [to_polygon(row.pop("geometry")) for row in rows]
    GeoDataFrame(rows, geometry=shapes, crs=SCENE_CRS).to_file(path, layer=path.stem, engine="pyogrio")
