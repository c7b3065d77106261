"""Simulated data sets in the on-disk formats of FUSAR-Ship 1.0 and SRSDD-v1.0."""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsft.data.datasets.formats.fusar_metadata import META_COLUMNS
from rsft.plugins.demo.placement import outline_deck, place_ships
from rsft.plugins.demo.radar import (
    Shore,
    amplitude_to_uint8,
    amplitude_to_uint16,
    render_sar_chip,
    render_sar_scene,
    sample_sensor,
)
from rsft.plugins.demo.ships import sample_ship
from rsft.types import Plane, Progress, Spacing
from rsft.utils.atomic_files import atomic_folder
from rsft.utils.process_pool import Result, Task, imap_unordered
from rsft.utils.progress import track

FusarTask = tuple[str, int, int]
"""Category, index of the sub-category, and number of the chip."""

# FUSAR-Ship: number of the category, and its sub-categories with the kind of ship that
# is simulated
_FUSAR = {
    "Cargo": (
        1,
        {"BulkCarrier": "cargo", "ContainerShip": "container", "GeneralCargo": "cargo"},
    ),
    "Dredger": (3, {"Dredger": "dredger"}),
    "Fishing": (4, {"Fishing": "fishing", "Trawler": "fishing"}),
    "Tanker": (12, {"CrudeOilTanker": "tanker", "Tanker": "tanker"}),
}
# extent of a chip along azimuth and range in meters: 512 px of 1.72 and 1.124 m
_FUSAR_FIELD = (880.0, 576.0)
_FUSAR_SIZE = 256  # default side of a chip in pixels


def fusar_spacing(size: int = _FUSAR_SIZE) -> Spacing:
    """Return the meters per pixel of a chip of a size, along azimuth and range."""
    return _FUSAR_FIELD[0] / size, _FUSAR_FIELD[1] / size


_GAIN = (90.0, 110.0)  # digital numbers per unit of amplitude

# SRSDD: number of ships of each class among the 2,884, and the kind of ship that is
# simulated
_SRSDD = {
    "Cell-Container": (2053, "container"),
    "Container": (89, "cargo"),
    "Fishing": (288, "fishing"),
    "LawEnforce": (25, "fishing"),
    "Dredger": (263, "dredger"),
    "ore-oil": (166, "tanker"),
}
_SRSDD_SIDE = 1024
# pixels without centers of ships, half of them at each edge: layover moves a deck
# across it
_SRSDD_MARGIN = 48
_SRSDD_SHIPS = (2, 7)  # lowest number per image, and highest number plus 1
_SRSDD_HEADER = "imagesource:simulated\ngsd:1.0\n"


def write_fusar_tree(
    root: Path,
    counts: Mapping[str, int],
    *,
    size: int = _FUSAR_SIZE,
    seed: int = 0,
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
        jobs: number of worker processes.
        progress: called after each chip.

    Raises:
        RsftError: a worker process was killed.
    """
    tasks = []
    for category, count in counts.items():
        kinds = len(_FUSAR[category][1])
        for index in range(count):
            tasks.append((category, index % kinds, index // kinds + 1))
    with atomic_folder(root) as folder:
        write_chip = partial(_write_fusar_chip, folder, size, seed)
        rows = sorted(_map(write_chip, tasks, jobs, progress, "simulating chips"))
        with (folder / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\r\n")
            table.writerow(META_COLUMNS)
            table.writerows(rows)


def write_srsdd_tree(
    root: Path,
    count: int,
    *,
    seed: int = 0,
    jobs: int = 2,
    progress: Progress | None = None,
) -> None:
    """Write a simulated SRSDD tree: scenes with rotated boxes, every fifth under test/.

    A scene has 1024 x 1024 pixels of 1 m.

    Raises:
        RsftError: a worker process was killed.
    """
    with atomic_folder(root) as folder:
        write_scene = partial(_write_srsdd_scene, folder, seed)
        _map(write_scene, range(count), jobs, progress, "simulating scenes")


def _map(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    progress: Progress | None,
    item: str,
) -> list[Result]:
    """Return the results of the tasks in any order, computed by `jobs` processes."""
    results = imap_unordered(work, tasks, jobs)
    return list(track(results, len(tasks), progress, item))


def _write_fusar_chip(
    folder: Path, size: int, seed: int, task: FusarTask
) -> tuple[Any, ...]:
    """Write a chip; return its row of meta.csv."""
    category, sub, number = task
    code, subcategories = _FUSAR[category]
    subcategory = list(subcategories)[sub]
    rng = np.random.default_rng((seed, code, sub, number))
    ship = sample_ship(subcategories[subcategory], rng)
    sensor = sample_sensor(rng, fusar_spacing(size))
    amplitude = render_sar_chip(ship, sensor, rng, size)
    name = f"Ship_C{code:02}S{sub + 1:02}N{number:04}"
    pixels: Plane
    if rng.random() < 0.5:
        pixels = amplitude_to_uint8(amplitude)
    else:
        pixels = amplitude_to_uint16(amplitude, rng.uniform(*_GAIN))
    _save(folder / category / subcategory / f"{name}.tiff", pixels)
    return (
        name,
        rng.integers(9 * 10**8, 10**9),
        round(ship.length),
        round(ship.beam),
        "HH",
        f"{sensor.incidence:.2f}",
        f"{sensor.spacing[0]:.6f}",
        f"{sensor.spacing[1]:.6f}",
        f"{category}\\{subcategory}",
    )


def _save(path: Path, pixels: Plane, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _write_srsdd_scene(folder: Path, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 100, index))
    shares = np.array([count for count, _ in _SRSDD.values()])
    count = rng.integers(*_SRSDD_SHIPS)
    names = rng.choice(list(_SRSDD), count, p=shares / shares.sum())
    kinds = [_SRSDD[name][1] for name in names]
    shore = None
    if rng.random() < 0.5:  # land covers up to a third of the image
        angle = rng.uniform(0, 2 * np.pi)
        shore = Shore(angle, rng.uniform(0.15, 0.45) * _SRSDD_SIDE)
    poses = place_ships(kinds, shore, _SRSDD_SIDE - _SRSDD_MARGIN, rng)
    sensor = sample_sensor(rng, (1.0, 1.0))
    amplitude = render_sar_scene(list(poses.values()), shore, sensor, rng, _SRSDD_SIDE)
    base = folder / ("test" if index % 5 == 4 else "train")
    image = base / "images" / f"{index}.png"
    _save(image, amplitude_to_uint8(amplitude), compress_level=1)
    text = _SRSDD_HEADER
    for number, pose in poses.items():
        corners = outline_deck(pose, sensor.tan_incidence) + (_SRSDD_SIDE - 1) / 2
        box = " ".join(f"{value:.1f}" for value in corners.ravel())
        text += f"{box} {names[number]} 0\n"
    (base / "labels").mkdir(exist_ok=True)
    (base / "labels" / f"{index}.txt").write_text(text, "utf-8")
