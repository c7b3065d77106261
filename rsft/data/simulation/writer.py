"""Write simulated ships in the on-disk formats of FUSAR-Ship 1.0 and SRSDD-v1.0."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from rsft.data.simulation.sar import (
    amplitude_to_uint8,
    amplitude_to_uint16,
    render_sar_chip,
    render_sar_scene,
    sample_sensor,
)
from rsft.data.simulation.scene import place_ships, sample_shore
from rsft.data.simulation.ships import sample_ship
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder
from rsft.utils.process_pool import imap_unordered

Task = TypeVar("Task")
Result = TypeVar("Result")

# FUSAR-Ship: index of the category, and its sub-categories with the kind of ship that is simulated
_FUSAR = {
    "Cargo": (1, (("BulkCarrier", "cargo"), ("ContainerShip", "container"), ("GeneralCargo", "cargo"))),
    "Dredger": (3, (("Dredger", "dredger"),)),
    "Fishing": (4, (("Fishing", "fishing"), ("Trawler", "fishing"))),
    "LawEnforce": (6, (("LawEnforce", "patrol"),)),
    "Passenger": (8, (("Passenger", "passenger"),)),
    "Tanker": (12, (("CrudeOilTanker", "tanker"), ("Tanker", "tanker"))),
    "Tug": (13, (("Tug", "tug"),)),
}
_NOT_SHIPS = "SeaClutterWaves"
_FUSAR_FIELD = (880.0, 576.0)  # extent of a chip along azimuth and range in meters: 512 px of 1.72 and 1.124 m
_FUSAR_SIZE = 256  # default side of a chip in pixels

FUSAR_SPACING = (_FUSAR_FIELD[0] / _FUSAR_SIZE, _FUSAR_FIELD[1] / _FUSAR_SIZE)
"""Meters per pixel of a chip of the default size, along azimuth and range."""

_META = ("id", "mmsi", "length", "width", "polarMode", "centerLookAngle", "heightspace", "widthspace", "path")
_GAIN = (60.0, 140.0)  # digital numbers per unit of amplitude

# SRSDD: number of ships of each class among the 2,884, and the kind of ship that is simulated
_SRSDD = {
    "Cell-Container": (2053, "container"),
    "Container": (89, "cargo"),
    "Fishing": (288, "fishing"),
    "LawEnforce": (25, "patrol"),
    "Dredger": (263, "dredger"),
    "ore-oil": (166, "tanker"),
}
_SRSDD_SIDE = 1024
_SRSDD_SHIPS = (2, 7)  # lowest number per image, and highest number plus 1
_SRSDD_HEADER = "imagesource:simulated\ngsd:1.0\n"


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

    Half of the chips are 8-bit, half 16-bit. MMSI numbers start with 9, which no ship has.

    Args:
        root: folder of the tree.
        counts: number of chips by category.
        size: side of a chip in pixels. The field of view is that of the published chips of 512 px, so smaller chips
            have larger pixels.
        seed: seed of the simulation.
        clutter: number of chips without a ship, in a separate folder.
        jobs: number of worker processes.
        progress: called after each chip.

    Raises:
        RsftError: a worker process was killed.
    """
    tasks = [
        (category, index % len(_FUSAR[category][1]), index // len(_FUSAR[category][1]) + 1)
        for category, count in counts.items()
        for index in range(count)
    ]
    with atomic_folder(root) as folder:
        write = partial(_write_fusar_chip, folder, size, seed)
        rows = _map(write, tasks, jobs, progress, "simulating chips")
        _map(partial(_write_clutter, folder, size, seed), range(clutter), jobs)
        with (folder / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\r\n").writerows([_META, *rows])


def write_srsdd_tree(
    root: Path, images: int, *, seed: int = 0, jobs: int = 2, progress: Progress | None = None
) -> None:
    """Write a simulated SRSDD tree: scenes of 1024 x 1024 pixels of 1 m, with rotated boxes; every fifth under test/.

    Args:
        root: folder of the tree.
        images: number of scenes.
        seed: seed of the simulation.
        jobs: number of worker processes.
        progress: called after each scene.

    Raises:
        RsftError: a worker process was killed.
    """
    with atomic_folder(root) as folder:
        _map(partial(_write_srsdd_scene, folder, seed), range(images), jobs, progress, "simulating scenes")


def _write_fusar_chip(folder: Path, size: int, seed: int, task: tuple[str, int, int]) -> tuple[object, ...]:
    category, sub, number = task
    code, subcategories = _FUSAR[category]
    subcategory, kind = subcategories[sub]
    rng = np.random.default_rng((seed, code, sub, number))
    ship = sample_ship(kind, rng)
    azimuth, ground = (meters / size for meters in _FUSAR_FIELD)
    sensor = sample_sensor(rng, (azimuth, ground))
    amplitude = render_sar_chip(ship, sensor, rng, size)
    pixels = (
        amplitude_to_uint8(amplitude) if rng.random() < 0.5 else amplitude_to_uint16(amplitude, rng.uniform(*_GAIN))
    )
    name = f"Ship_C{code:02}S{sub + 1:02}N{number:04}"
    path = folder / category / subcategory / f"{name}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    mmsi, spacing = rng.integers(9 * 10**8, 10**9), (f"{azimuth:.6f}", f"{ground:.6f}")
    ship_columns = (mmsi, round(ship.length), round(ship.beam), "HH", f"{sensor.incidence:.2f}")
    return (name, *ship_columns, *spacing, f"{category}\\{subcategory}")


def _write_clutter(folder: Path, size: int, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 99, index))
    sensor = sample_sensor(rng, (_FUSAR_FIELD[0] / size, _FUSAR_FIELD[1] / size))
    path = folder / _NOT_SHIPS / f"{_NOT_SHIPS}_{index + 1:04}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(amplitude_to_uint8(render_sar_scene([], None, sensor, rng, size))).save(path)


def _write_srsdd_scene(folder: Path, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 100, index))
    shares = np.array([count for count, _ in _SRSDD.values()])
    names = rng.choice(list(_SRSDD), rng.integers(*_SRSDD_SHIPS), p=shares / shares.sum())
    shore = sample_shore(rng, _SRSDD_SIDE) if rng.random() < 0.5 else None
    poses = place_ships([_SRSDD[name][1] for name in names], shore, _SRSDD_SIDE, rng)
    sensor = sample_sensor(rng, (1.0, 1.0))
    pixels = amplitude_to_uint8(render_sar_scene(list(poses.values()), shore, sensor, rng, _SRSDD_SIDE))
    base = folder / ("test" if index % 5 == 4 else "train")
    for name in ("images", "labels"):
        (base / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(base / "images" / f"{index}.png", compress_level=1)
    rows = []
    for ship_index, pose in poses.items():
        layover = pose.ship.freeboard / sensor.tan_incidence  # annotators outline the deck, as it appears in the image
        box = pose.bounding_box() - (layover, 0)
        corners = box.ravel() + (_SRSDD_SIDE - 1) / 2
        rows.append(" ".join(f"{value:.1f}" for value in corners) + f" {names[ship_index]} 0\n")
    (base / "labels" / f"{index}.txt").write_text(_SRSDD_HEADER + "".join(rows), "utf-8")


def _map(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, progress: Progress | None = None, item: str = ""
) -> list[Result]:
    """Return the results of the tasks in order, computed by `jobs` processes (1: this process).

    Raises:
        RsftError: a worker process was killed.
    """
    results = []
    for result in imap_unordered(partial(_with_index, work), enumerate(tasks), jobs):
        results.append(result)
        if progress is not None:
            progress(len(results), len(tasks), item)
    return [result for _, result in sorted(results, key=itemgetter(0))]


def _with_index(work: Callable[[Task], Result], numbered: tuple[int, Task]) -> tuple[int, Result]:
    index, task = numbered
    return index, work(task)
