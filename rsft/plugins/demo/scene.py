"""A simulated scene with a georeference, and the ships and the land in it."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.plugins.demo.archives import fusar_spacing
from rsft.plugins.demo.placement import outline_deck, place_ships, sample_coast
from rsft.plugins.demo.radar import (
    Pose,
    amplitude_to_uint16,
    render_sar_scene,
    sample_sensor,
)
from rsft.types import JsonObject, Reals, Spacing
from rsft.utils.atomic_files import atomic_folder

SCENE_FILE = "scene.tif"
SHIPS_FILE = "ships.gpkg"
LAND_FILE = "land.gpkg"
AIS_FILE = "ais.csv"

SCENE_FILES = {
    "scene": SCENE_FILE,
    "truth": SHIPS_FILE,
    "land": LAND_FILE,
    "AIS": AIS_FILE,
}
"""Files of a simulated scene by their content."""

SCENE_CRS = "EPSG:32631"
"""UTM zone 31 north, in which the scene lies at 0 degrees north and east: no real coast
is there."""

SCENE_TIME = datetime(2026, 6, 1, 5, 30, tzinfo=UTC)
"""When the scene of seed 0 was acquired, for its AIS messages; that of seed 1 a day
later, and so on."""

SCENE_CLASSES: Mapping[str, int] = {
    "cargo": 11,
    "fishing": 9,
    "tanker": 6,
    "dredger": 6,
}
"""Number of ships by class."""

_SPACING = fusar_spacing()
_ORIGIN = (166_000.0, 4_000.0)  # easting and northing of the upper left corner
_SHAPE = (880, 1344)  # rows and columns: 3 km x 3 km
# side of the simulated image; its edges are cut off, because sidelobes continue at the
# opposite edge
_RENDERED = 1408
_MMSI = 200_000_001  # of the first ship; 200 is the code of no country
_KNOT = 1852 / 3600  # meters per second
_MARGIN = 100  # pixels between ships and the edge, so that chips lie in the scene
_CLEARANCE = 150.0  # meters between ships, so that a chip shows one of them
# digital numbers per unit of amplitude, in the middle of the range of the training
# chips
_GAIN = 100.0
_SEED_TAG = "RSFT_SEED"
_DESCRIPTION = "Simulated SAR image (rsft). The place is not real."


def write_scene(folder: Path, *, seed: int = 0) -> None:
    """Write a simulated scene with a coast, ships and their messages of AIS.

    The files are scene.tif, ships.gpkg, land.gpkg and ais.csv. Pixel spacing, sensor,
    clutter and ships are like those of the FUSAR-Ship chips of `write_fusar_tree`. An
    existing folder is replaced. A ship for which no position is free is left out.
    """
    from geopandas import GeoDataFrame

    rng = np.random.default_rng((seed, 200))
    sensor = sample_sensor(rng, _SPACING)
    coast = sample_coast(rng, min(_extent()))
    kinds = np.repeat(list(SCENE_CLASSES), list(SCENE_CLASSES.values()))
    kinds = rng.permutation(kinds).tolist()
    placed = place_ships(kinds, coast, _extent(_MARGIN), rng, _CLEARANCE)
    poses = list(placed.values())
    amplitude = render_sar_scene(poses, coast, sensor, rng, _RENDERED)
    rows, cols = _SHAPE
    top = (_RENDERED - rows) // 2
    left = (_RENDERED - cols) // 2
    amplitude = amplitude[top : top + rows, left : left + cols]
    ships = list(map(_describe_ship, poses))
    outlines = [_to_map(outline_deck(x, sensor.tan_incidence)) for x in poses]
    land = _to_map(coast.outline(max(_extent())))
    with atomic_folder(folder) as temporary:
        pixels = amplitude_to_uint16(amplitude, _GAIN)
        _write_raster(temporary / SCENE_FILE, pixels, seed)
        _write_messages(temporary / AIS_FILE, ships, outlines, seed)
        layer = GeoDataFrame(ships, geometry=outlines, crs=SCENE_CRS)
        layer.to_file(temporary / SHIPS_FILE, layer="ships", engine="pyogrio")
        layer = GeoDataFrame({"kind": ["land"]}, geometry=[land], crs=SCENE_CRS)
        layer.to_file(temporary / LAND_FILE, layer="land", engine="pyogrio")


def read_scene_seed(folder: Path) -> str:
    """Return the seed of a simulated scene.

    Returns:
        The seed as text; "" if the folder has no scene of this simulation.
    """
    import rasterio

    with (
        suppress(rasterio.errors.RasterioError),
        rasterio.open(folder / SCENE_FILE, driver="GTiff") as file,
    ):
        return str(file.tags().get(_SEED_TAG, ""))
    return ""


def _describe_ship(pose: Pose) -> JsonObject:
    heading = float(90 + np.degrees(pose.heading)) % 360  # clockwise from north
    return {
        "class": pose.ship.kind,
        "length_m": round(pose.ship.length, 1),
        "beam_m": round(pose.ship.beam, 1),
        "heading_deg": round(heading, 1),
    }


def _write_raster(path: Path, pixels: NDArray[np.uint16], seed: int) -> None:
    import rasterio
    from rasterio.transform import Affine

    height, width = pixels.shape
    step_down, step_right = _SPACING
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs=SCENE_CRS,
        transform=Affine(step_right, 0, _ORIGIN[0], 0, -step_down, _ORIGIN[1]),
        width=width,
        height=height,
        count=1,
        dtype="uint16",
        tiled=True,
        compress="deflate",
        predictor=2,
    ) as file:
        file.write(pixels[None])
        file.descriptions = ("HH",)
        file.units = ("DN",)
        time = SCENE_TIME + timedelta(days=seed)
        tags = {"ACQUISITION_START_UTC": time.isoformat(), _SEED_TAG: str(seed)}
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION=_DESCRIPTION, **tags)


def _write_messages(
    path: Path, ships: list[JsonObject], outlines: list[Any], seed: int
) -> None:
    """Write AIS messages of the ships within ten minutes of the scene.

    One ship in ten sends none. Half of the ships lie at anchor, the others sail with up
    to 2 knots: the image does not displace moving ships.
    """
    import pandas as pd
    from pyproj import Geod, Transformer

    to_degrees = Transformer.from_crs(SCENE_CRS, "EPSG:4326", always_xy=True)
    earth = Geod(ellps="WGS84")
    rows = []
    rng = np.random.default_rng((seed, 201))
    for number, (ship, outline) in enumerate(zip(ships, outlines, strict=True)):
        if rng.random() < 0.1:
            continue
        center = to_degrees.transform(outline.centroid.x, outline.centroid.y)
        knots = rng.choice([0.0, rng.uniform(0.5, 2.0)])
        course = ship["heading_deg"]
        for minutes in (-rng.uniform(1, 10), rng.uniform(1, 10)):
            distance = knots * _KNOT * 60 * minutes
            lon, lat, _ = earth.fwd(*center, course, distance)
            time = SCENE_TIME + timedelta(days=seed, minutes=minutes)
            message = {
                "MMSI": _MMSI + 100 * (seed % 1000) + number,
                "BaseDateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "LAT": round(lat, 6),
                "LON": round(lon, 6),
                "SOG": round(knots, 1),
                "COG": course,
                "VesselType": ship["class"],
                "Length": round(ship["length_m"]),
                "Width": round(ship["beam_m"]),
            }
            rows.append(message)
    pd.DataFrame(rows).to_csv(path, index=False)


def _extent(margin: int = 0) -> Spacing:
    """Return the sides of the scene along x and y in meters, without a margin.

    Args:
        margin: pixels left out at each edge.
    """
    height, width = (np.array(_SHAPE) - 2 * margin) * _SPACING
    return width, height


def _to_map(corners: Reals) -> Any:
    """Return a polygon in the coordinate system of the scene, cut off at its edges.

    Args:
        corners: corners (N, 2) in meters of the image frame.
    """
    import shapely

    left, top = _ORIGIN
    width, height = _extent()
    center = np.array([left + width / 2, top - height / 2])
    polygon = shapely.Polygon(center + corners * (1, -1))
    scene = shapely.box(left, top - height, left + width, top)
    return shapely.make_valid(polygon).intersection(scene)
