"""Simulated ships in the on-disk formats of FUSAR-Ship 1.0 and SRSDD-v1.0, so that their readers read them too."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
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
from rsft.errors import RsftError
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder

Task = TypeVar("Task")
Result = TypeVar("Result")

# FUSAR-Ship: index of the category, then its sub-categories, each with the kind of ship drawn for it
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
_FUSAR_FIELD = (880.0, 576.0)  # metres covered by a chip along azimuth and range: 512 px of 1.72 and 1.124 m
_META = ("id", "mmsi", "length", "width", "polarMode", "centerLookAngle", "heightspace", "widthspace", "path")
_GAIN = (60.0, 140.0)  # digital numbers a unit of amplitude

# SRSDD: share of each class among the 2,884 ships, and the kind of ship drawn for it
_SRSDD = {
    "Cell-Container": (2053, "container"),
    "Container": (89, "cargo"),
    "Fishing": (288, "fishing"),
    "LawEnforce": (25, "patrol"),
    "Dredger": (263, "dredger"),
    "ore-oil": (166, "tanker"),
}
_SRSDD_SIDE = 1024
_SRSDD_SHIPS = (2, 7)  # in one image
_SRSDD_HEADER = "imagesource:simulated\ngsd:1.0\n"


def write_fusar_tree(
    root: Path,
    counts: Mapping[str, int],
    *,
    size: int = 256,
    seed: int = 0,
    clutter: int = 0,
    jobs: int = 2,
    progress: Progress | None = None,
) -> None:
    """Write `counts[category]` chips of size x size pixels, half of them 8-bit, half 16-bit, and meta.csv.

    The field of view is that of the published 512 px, so the pixels are larger where `size` is smaller. MMSI numbers
    start with 9, which no ship has. `clutter` chips without a ship go to a folder that is no ship category.
    """
    tasks = [
        (category, index % len(_FUSAR[category][1]), index // len(_FUSAR[category][1]) + 1)
        for category, count in counts.items()
        for index in range(count)
    ]
    with atomic_folder(root) as folder:
        write = partial(_write_fusar_chip, folder, size, seed)
        rows = _parallel(write, tasks, jobs, progress, "simulating chips")
        _parallel(partial(_write_clutter, folder, size, seed), range(clutter), jobs)
        with (folder / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\r\n").writerows([_META, *rows])


def write_srsdd_tree(
    root: Path, images: int, *, seed: int = 0, jobs: int = 2, progress: Progress | None = None
) -> None:
    """Write `images` scenes of 1024 x 1024 pixels at 1 m with their rotated boxes, every fifth under test/."""
    with atomic_folder(root) as folder:
        _parallel(partial(_write_scene, folder, seed), range(images), jobs, progress, "simulating scenes")


def _write_fusar_chip(folder: Path, size: int, seed: int, task: tuple[str, int, int]) -> tuple[object, ...]:
    category, sub, number = task
    code, subcategories = _FUSAR[category]
    subcategory, kind = subcategories[sub]
    rng = np.random.default_rng((seed, code, sub, number))
    ship = sample_ship(kind, rng)
    azimuth, ground = (metres / size for metres in _FUSAR_FIELD)
    radar = sample_sensor(rng, (azimuth, ground))
    amplitude = render_sar_chip(ship, radar, rng, size)
    pixels = (
        amplitude_to_uint8(amplitude) if rng.random() < 0.5 else amplitude_to_uint16(amplitude, rng.uniform(*_GAIN))
    )
    name = f"Ship_C{code:02}S{sub + 1:02}N{number:04}"
    path = folder / category / subcategory / f"{name}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    mmsi, spacing = rng.integers(9 * 10**8, 10**9), (f"{azimuth:.6f}", f"{ground:.6f}")
    size_facts = (mmsi, round(ship.length), round(ship.beam), "HH", f"{radar.incidence:.2f}")
    return (name, *size_facts, *spacing, f"{category}\\{subcategory}")


def _write_clutter(folder: Path, size: int, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 99, index))
    radar = sample_sensor(rng, (_FUSAR_FIELD[0] / size, _FUSAR_FIELD[1] / size))
    path = folder / _NOT_SHIPS / f"{_NOT_SHIPS}_{index + 1:04}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(amplitude_to_uint8(render_sar_scene([], None, radar, rng, size))).save(path)


def _write_scene(folder: Path, seed: int, index: int) -> None:
    rng = np.random.default_rng((seed, 100, index))
    shares = np.array([count for count, _ in _SRSDD.values()])
    names = rng.choice(list(_SRSDD), rng.integers(*_SRSDD_SHIPS), p=shares / shares.sum())
    shore = sample_shore(rng, _SRSDD_SIDE) if rng.random() < 0.5 else None
    poses = place_ships([_SRSDD[name][1] for name in names], shore, _SRSDD_SIDE, rng)
    radar = sample_sensor(rng, (1.0, 1.0))
    pixels = amplitude_to_uint8(render_sar_scene(list(poses.values()), shore, radar, rng, _SRSDD_SIDE))
    base = folder / ("test" if index % 5 == 4 else "train")
    for part in ("images", "labels"):
        (base / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(base / "images" / f"{index}.png", compress_level=1)
    rows = []
    for which, pose in poses.items():
        seen = pose.bounding_box() - (
            pose.ship.freeboard / radar.tan_incidence,
            0,
        )  # an annotator boxes the deck where it appears
        corners = seen.ravel() + (_SRSDD_SIDE - 1) / 2
        rows.append(" ".join(f"{value:.1f}" for value in corners) + f" {names[which]} 0\n")
    (base / "labels" / f"{index}.txt").write_text(_SRSDD_HEADER + "".join(rows), "utf-8")


def _parallel(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, progress: Progress | None = None, what: str = ""
) -> list[Result]:
    """Results in the order of the tasks, which are shared out to processes; one job works in this process.

    Raises:
        RsftError: a process was killed.
    """
    results = []
    try:
        with ProcessPoolExecutor(jobs) as pool:
            for result in map(work, tasks) if jobs == 1 else pool.map(work, tasks, chunksize=4):
                results.append(result)
                if progress is not None:
                    progress(len(results), len(tasks), what)
    except BrokenProcessPool as error:
        raise RsftError("a worker process was killed", "", "if memory was short, use fewer --jobs") from error
    return results
