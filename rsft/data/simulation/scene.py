"""Simulated data sets and scenes: SAR images of ships in the on-disk formats of FUSAR-Ship 1.0, SRSDD-v1.0 and GeoTIFF.

A harbor or coast has many ships, which neither overlap nor lie on land. A scene has a
georeference, and its truth: the ships and the land in it.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsft.data.simulation import radar
from rsft.data.simulation.radar import (
    Pose,
    SarSensor,
    Shore,
    amplitude_to_uint8,
    amplitude_to_uint16,
)
from rsft.data.simulation.ships import sample_ship
from rsft.types import Floats, Progress
from rsft.utils.atomic_files import atomic_folder
from rsft.utils.process_pool import Result, Task, imap_unordered

FusarTask = tuple[str, int, int]
"""Category, index of the sub-category, and number of the chip."""

_TRIES = 40  # per ship, to find a free position
_CLEARANCE = 8.0  # meters between ships in a harbor

# FUSAR-Ship: index of the category, and its sub-categories with the kind of ship that
# is simulated
_FUSAR = {
    "Cargo": (
        1,
        (
            ("BulkCarrier", "cargo"),
            ("ContainerShip", "container"),
            ("GeneralCargo", "cargo"),
        ),
    ),
    "Dredger": (3, (("Dredger", "dredger"),)),
    "Fishing": (4, (("Fishing", "fishing"), ("Trawler", "fishing"))),
    "LawEnforce": (6, (("LawEnforce", "patrol"),)),
    "Passenger": (8, (("Passenger", "passenger"),)),
    "Tanker": (12, (("CrudeOilTanker", "tanker"), ("Tanker", "tanker"))),
    "Tug": (13, (("Tug", "tug"),)),
}
_NOT_SHIPS = "SeaClutterWaves"
_FUSAR_FIELD = (
    880.0,
    576.0,
)  # extent of a chip along azimuth and range in meters: 512 px of 1.72 and 1.124 m
_FUSAR_SIZE = 256  # default side of a chip in pixels

FUSAR_SPACING = (_FUSAR_FIELD[0] / _FUSAR_SIZE, _FUSAR_FIELD[1] / _FUSAR_SIZE)
"""Meters per pixel of a chip of the default size, along azimuth and range."""

_META = (
    "id",
    "mmsi",
    "length",
    "width",
    "polarMode",
    "centerLookAngle",
    "heightspace",
    "widthspace",
    "path",
)
_GAIN = (90.0, 110.0)  # digital numbers per unit of amplitude

# SRSDD: number of ships of each class among the 2,884, and the kind of ship that is
# simulated
_SRSDD = {
    "Cell-Container": (2053, "container"),
    "Container": (89, "cargo"),
    "Fishing": (288, "fishing"),
    "LawEnforce": (25, "patrol"),
    "Dredger": (263, "dredger"),
    "ore-oil": (166, "tanker"),
}
_SRSDD_SIDE = 1024
# pixels without centers of ships, half of them at each edge: layover moves a deck
# across it
_SRSDD_MARGIN = 48
_SRSDD_SHIPS = (2, 7)  # lowest number per image, and highest number plus 1
_SRSDD_HEADER = "imagesource:simulated\ngsd:1.0\n"

SCENE_FILE = "scene.tif"
SHIPS_FILE = "ships.gpkg"
LAND_FILE = "land.gpkg"
AIS_FILE = "ais.csv"

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

_ORIGIN = (166_000.0, 4_000.0)  # easting and northing of the upper left corner
_SHAPE = (880, 1344)  # rows and columns: 3 km x 3 km
# side of the simulated image; its edges are cut off, because sidelobes continue at the
# opposite edge
_RENDERED = 1408
_MMSI = 200_000_001  # of the first ship; 200 is the code of no country
_KNOT = 1852 / 3600  # meters per second
_MARGIN = 100  # pixels between ships and the edge, so that chips lie in the scene
_SCENE_CLEARANCE = 150.0  # meters between ships, so that a chip shows one of them
# digital numbers per unit of amplitude, in the middle of the range of the training
# chips
_SCENE_GAIN = 100.0
_SEED_TAG = "RSFT_SEED"
_DESCRIPTION = "Simulated SAR image (rsft). The place is not real."


def write_fusar_tree(
    root: Path,
    counts: Mapping[str, int],
    *,
    size: int = _FUSAR_SIZE,
    seed: int = 0,
    clutter: int = 0,
    jobs: int = 2,
    progress: Progress | None = None,
) -> None:
    """Write a simulated FUSAR-Ship tree: chips by category, and meta.csv.

    Half of the chips are 8-bit, half 16-bit. MMSI numbers start with 9, which no ship
    has.

    Args:
        root: folder of the tree.
        counts: number of chips by category.
        size: side of a chip in pixels. The field of view is that of the published chips
            of 512 px, so smaller chips have larger pixels.
        seed: seed of the simulation.
        clutter: number of chips without a ship, in a separate folder.
        jobs: number of worker processes.
        progress: called after each chip.

    Raises:
        RsftError: a worker process was killed.
    """
    kinds = {category: len(_FUSAR[category][1]) for category in counts}
    tasks = [
        (x, index % kinds[x], index // kinds[x] + 1)
        for x, count in counts.items()
        for index in range(count)
    ]
    with atomic_folder(root) as folder:
        rows = dict(
            _map(
                partial(_write_fusar_chip, folder, size, seed),
                tasks,
                jobs,
                progress,
                "simulating chips",
            )
        )
        _map(partial(_write_clutter, folder, size, seed), range(clutter), jobs)
        with (folder / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\r\n").writerows(
                [_META, *map(rows.__getitem__, tasks)]
            )


def write_srsdd_tree(
    root: Path,
    count: int,
    *,
    seed: int = 0,
    jobs: int = 2,
    progress: Progress | None = None,
) -> None:
    """Write a simulated SRSDD tree: scenes of 1024 x 1024 pixels of 1 m, with rotated boxes; every fifth under test/.

    Raises:
        RsftError: a worker process was killed.
    """
    with atomic_folder(root) as folder:
        _map(
            partial(_write_srsdd_scene, folder, seed),
            range(count),
            jobs,
            progress,
            "simulating scenes",
        )


def write_scene(folder: Path, *, seed: int = 0) -> None:
    """Write a simulated scene with a coast and ships: scene.tif, ships.gpkg, land.gpkg and their messages, ais.csv.

    Pixel spacing, sensor, clutter and ships are like those of the FUSAR-Ship chips of
    `write_fusar_tree`. An existing folder is replaced. A ship for which no position is
    free is left out.
    """
    import rasterio
    from geopandas import GeoDataFrame
    from rasterio.transform import Affine

    rng = np.random.default_rng((seed, 200))
    sensor = radar.sample_sensor(rng, FUSAR_SPACING)
    coast = sample_coast(rng, min(_extent()))
    kinds = rng.permutation(
        [kind for kind, count in SCENE_CLASSES.items() for _ in range(count)]
    ).tolist()
    poses = list(
        place_ships(kinds, coast, _extent(_MARGIN), rng, _SCENE_CLEARANCE).values()
    )
    rows, cols = (
        slice((_RENDERED - size) // 2, (_RENDERED + size) // 2) for size in _SHAPE
    )
    pixels = amplitude_to_uint16(
        radar.render_sar_scene(poses, coast, sensor, rng, _RENDERED)[rows, cols],
        _SCENE_GAIN,
    )
    ships = [
        {
            "class": pose.ship.kind,
            "length_m": round(pose.ship.length, 1),
            "beam_m": round(pose.ship.beam, 1),
            "heading_deg": round(
                float(90 + np.degrees(pose.heading)) % 360, 1
            ),  # clockwise from north
        }
        for pose in poses
    ]
    with atomic_folder(folder) as temporary:
        transform = Affine(
            FUSAR_SPACING[1], 0, _ORIGIN[0], 0, -FUSAR_SPACING[0], _ORIGIN[1]
        )
        layout = {
            "driver": "GTiff",
            "tiled": True,
            "compress": "deflate",
            "predictor": 2,
        }
        size = {
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "count": 1,
            "dtype": "uint16",
        }
        with rasterio.open(
            temporary / SCENE_FILE,
            "w",
            crs=SCENE_CRS,
            transform=transform,
            **layout,
            **size,
        ) as file:
            file.write(pixels[None])
            file.descriptions = ("HH",)
            file.units = ("DN",)
            tags = {
                "ACQUISITION_START_UTC": (
                    (SCENE_TIME + timedelta(days=seed)).isoformat()
                ),
                _SEED_TAG: str(seed),
            }
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=_DESCRIPTION, **tags)
        outlines = [_to_map(_outline_deck(pose, sensor)) for pose in poses]
        _write_messages(temporary / AIS_FILE, ships, outlines, seed)
        ship_layer = GeoDataFrame(ships, geometry=outlines, crs=SCENE_CRS)
        ship_layer.to_file(temporary / SHIPS_FILE, layer="ships", engine="pyogrio")
        land_layer = GeoDataFrame(
            {"kind": ["land"]},
            geometry=[_to_map(coast.outline(max(_extent())))],
            crs=SCENE_CRS,
        )
        land_layer.to_file(temporary / LAND_FILE, layer="land", engine="pyogrio")


def _write_messages(
    path: Path, ships: list[dict[str, Any]], outlines: list[Any], seed: int
) -> None:
    """Write AIS messages of the ships within ten minutes of the scene; one ship in ten sends none.

    Half of the ships lie at anchor, the others sail with up to 2 knots: the image does
    not displace moving ships.
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
        lon, lat = to_degrees.transform(outline.centroid.x, outline.centroid.y)
        speed = rng.choice([0.0, rng.uniform(0.5, 2.0)])
        course = ship["heading_deg"]  # knots
        for minutes in (-rng.uniform(1, 10), rng.uniform(1, 10)):
            x, y, _ = earth.fwd(lon, lat, course, speed * _KNOT * 60 * minutes)
            time = (SCENE_TIME + timedelta(days=seed, minutes=minutes)).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            size = round(ship["length_m"]), round(ship["beam_m"])
            place = round(y, 6), round(x, 6)
            rows.append(
                (
                    _MMSI + 100 * (seed % 1000) + number,
                    time,
                    *place,
                    round(speed, 1),
                    course,
                    ship["class"],
                    *size,
                )
            )
    names = [
        "MMSI",
        "BaseDateTime",
        "LAT",
        "LON",
        "SOG",
        "COG",
        "VesselType",
        "Length",
        "Width",
    ]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)


def _outline_deck(pose: Pose, sensor: SarSensor) -> Floats:
    """Return the corners (4, 2) of the box around the deck, as it appears in the image and annotators outline it."""
    return pose.bounding_box() - (pose.ship.freeboard / sensor.tan_incidence, 0)


def sample_coast(rng: np.random.Generator, side: float) -> Shore:
    """Draw a natural coast with bays, whose land covers about a fifth of an image with sides of `side` meters."""
    wavelengths = side * np.array(
        [rng.uniform(0.7, 1.1), rng.uniform(0.25, 0.4), rng.uniform(0.08, 0.14)]
    )
    amplitudes = wavelengths * rng.uniform(0.04, 0.1, 3)
    bends = zip(
        amplitudes.tolist(),
        wavelengths.tolist(),
        rng.uniform(0, 2 * np.pi, 3).tolist(),
        strict=True,
    )
    return Shore(
        float(rng.uniform(0, 2 * np.pi)),
        float(rng.uniform(0.25, 0.32) * side),
        tuple(bends),
    )


def _extent(margin: int = 0) -> tuple[float, float]:
    """Return the sides of the scene along x and y in meters, without a margin of pixels at its edges."""
    rows, cols = (size - 2 * margin for size in _SHAPE)
    return cols * FUSAR_SPACING[1], rows * FUSAR_SPACING[0]


def _to_map(corners: NDArray[np.floating]) -> Any:
    """Return a polygon with corners in the image frame, in the coordinate system of the scene."""
    import shapely

    (left, top), (width, height) = _ORIGIN, _extent()
    map_corners = np.array([left + width / 2, top - height / 2]) + corners * (1, -1)
    scene = shapely.box(left, top - height, left + width, top)
    return shapely.make_valid(shapely.Polygon(map_corners)).intersection(scene)


def read_scene_seed(folder: Path) -> int | None:
    """Return the seed of a simulated scene.

    Returns:
        The seed; None if the folder has no complete scene, or one of another
        simulation.
    """
    import rasterio

    if not all(
        (folder / name).is_file() for name in (SCENE_FILE, SHIPS_FILE, LAND_FILE)
    ):
        return None
    try:
        with rasterio.open(folder / SCENE_FILE, driver="GTiff") as file:
            seed = file.tags().get(_SEED_TAG, "")
    except rasterio.errors.RasterioError:
        return None
    if seed.isdecimal():
        return int(seed)
    return None


def _write_fusar_chip(
    folder: Path, size: int, seed: int, task: FusarTask
) -> tuple[FusarTask, tuple[object, ...]]:
    """Write a chip; return its task and its row of meta.csv."""
    category, sub, number = task
    code, subcategories = _FUSAR[category]
    subcategory, kind = subcategories[sub]
    rng = np.random.default_rng((seed, code, sub, number))
    ship = sample_ship(kind, rng)
    sensor = radar.sample_sensor(rng, (_FUSAR_FIELD[0] / size, _FUSAR_FIELD[1] / size))
    amplitude = radar.render_sar_chip(ship, sensor, rng, size)
    is_byte = rng.random() < 0.5
    name = f"Ship_C{code:02}S{sub + 1:02}N{number:04}"
    pixels = (
        amplitude_to_uint8(amplitude)
        if is_byte
        else amplitude_to_uint16(amplitude, rng.uniform(*_GAIN))
    )
    _save(folder / category / subcategory / f"{name}.tiff", pixels)
    mmsi = rng.integers(9 * 10**8, 10**9)
    spacing = [f"{meters:.6f}" for meters in sensor.spacing]
    ship_columns = (
        mmsi,
        round(ship.length),
        round(ship.beam),
        "HH",
        f"{sensor.incidence:.2f}",
    )
    return task, (name, *ship_columns, *spacing, f"{category}\\{subcategory}")


def _write_clutter(folder: Path, size: int, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 99, index))
    sensor = radar.sample_sensor(rng, (_FUSAR_FIELD[0] / size, _FUSAR_FIELD[1] / size))
    pixels = amplitude_to_uint8(radar.render_sar_scene([], None, sensor, rng, size))
    _save(folder / _NOT_SHIPS / f"{_NOT_SHIPS}_{index + 1:04}.tiff", pixels)


def _save(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _write_srsdd_scene(folder: Path, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 100, index))
    shares = np.array([count for count, _ in _SRSDD.values()])
    names = rng.choice(
        list(_SRSDD), rng.integers(*_SRSDD_SHIPS), p=shares / shares.sum()
    )
    has_shore = rng.random() < 0.5  # land covers up to a third of the image
    if has_shore:
        shore = Shore(rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45) * _SRSDD_SIDE)
    else:
        shore = None
    poses = place_ships(
        [_SRSDD[name][1] for name in names], shore, _SRSDD_SIDE - _SRSDD_MARGIN, rng
    )
    sensor = radar.sample_sensor(rng, (1.0, 1.0))
    pixels = amplitude_to_uint8(
        radar.render_sar_scene(list(poses.values()), shore, sensor, rng, _SRSDD_SIDE)
    )
    base = folder / ("test" if index % 5 == 4 else "train")
    _save(base / "images" / f"{index}.png", pixels, compress_level=1)
    (base / "labels").mkdir(exist_ok=True)
    rows = []
    for ship_index, pose in poses.items():
        corners = _outline_deck(pose, sensor).ravel() + (_SRSDD_SIDE - 1) / 2
        rows.append(
            " ".join(f"{value:.1f}" for value in corners) + f" {names[ship_index]} 0\n"
        )
    (base / "labels" / f"{index}.txt").write_text(
        _SRSDD_HEADER + "".join(rows), "utf-8"
    )


def _map(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    progress: Progress | None = None,
    item: str = "",
) -> list[Result]:
    """Return the results of the tasks in any order, computed by `jobs` processes (1: this process)."""
    results = []
    for result in imap_unordered(work, tasks, jobs):
        results.append(result)
        if progress is not None:
            progress(len(results), len(tasks), item)
    return results


def place_ships(
    kinds: Sequence[str],
    shore: Shore | None,
    side: float | tuple[float, float],
    rng: np.random.Generator,
    clearance: float = _CLEARANCE,
) -> dict[int, Pose]:
    """Draw ships at random positions; if the image has a quay, half of them are moored.

    Args:
        kinds: class of each ship.
        shore: the shore; None for open water.
        side: side of the image in meters, or its sides along x and y; ship centers lie
            inside.
        rng: source of randomness.
        clearance: smallest distance between ships, and from a natural coast, in meters.

    Returns:
        Poses by index into `kinds`. A ship without a free position is left out.
    """
    poses: dict[int, Pose] = {}
    sides = np.broadcast_to(side, 2)
    for index, kind in enumerate(kinds):
        ship = sample_ship(kind, rng)
        for _ in range(_TRIES):
            if shore is not None and shore.has_quay and rng.random() < 0.5:
                berth = shore.offset - ship.beam / 2 - rng.uniform(1, 15)
                along = rng.uniform(-0.5, 0.5) * sides.max()
                x = berth * np.cos(shore.angle) - along * np.sin(shore.angle)
                y = berth * np.sin(shore.angle) + along * np.cos(shore.angle)
                heading = shore.angle + rng.choice([-1, 1]) * np.pi / 2
            else:
                x, y = rng.uniform(-0.5, 0.5, 2) * sides
                heading = rng.uniform(0, 2 * np.pi)
            pose = Pose(ship, float(x), float(y), float(heading))
            if (abs(np.array([pose.x, pose.y])) > sides / 2).any():
                continue
            gap = 0 if shore is None or shore.has_quay else clearance
            if (
                shore is not None
                and shore.distance_inland(*pose.bounding_box().T).max() > -gap
            ):
                continue
            others = poses.values()
            if all(
                _separated(pose, other, clearance)
                and _separated(other, pose, clearance)
                for other in others
            ):
                poses[index] = pose
                break
    return poses


def _separated(pose: Pose, other: Pose, clearance: float) -> bool:
    """Return True if an axis of `pose` separates the two boxes."""
    cos = np.cos(pose.heading)
    sin = np.sin(pose.heading)
    offset = (other.bounding_box() - (pose.x, pose.y)) @ np.array(
        [[cos, -sin], [sin, cos]]
    )
    half = np.array([pose.ship.length, pose.ship.beam]) / 2 + clearance
    return bool(np.any((offset.min(axis=0) > half) | (offset.max(axis=0) < -half)))
