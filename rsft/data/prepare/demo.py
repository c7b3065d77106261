"""Build the demonstration data: simulated SAR ships with the long tail of FUSRS v2.

The simulator writes FUSAR-Ship and SRSDD trees, and the parsers of the real archives
read them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsft.data.prepare.registry import data_set, format_prepare_command
from rsft.errors import RequestError

if TYPE_CHECKING:
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore, Counts
    from rsft.data.datasets.formats.fusar_files import FUSARChips
    from rsft.data.datasets.formats.srsdd_files import SRSDDShips
    from rsft.types import Progress

DEMO_CLASSES = ("cargo", "fishing", "tanker", "dredger")
DEMO_GROUPS = {
    "head": ["cargo", "fishing"],
    "medium": [],
    "tail": ["tanker", "dredger"],
}
"""The groups that the paper defines for FUSRS v2; they do not follow from
DEMO_COUNTS."""

DEMO_BANDS = ("HH",)
DEMO_COUNTS: Counts = {
    "train": {"cargo": 320, "fishing": 80, "tanker": 30, "dredger": 20},
    "val": dict.fromkeys(DEMO_CLASSES, 15),
    "test": dict.fromkeys(DEMO_CLASSES, 100),
}
DEMO_SCENES = 10
"""Number of simulated SRSDD scenes."""

_OTHER_CATEGORIES = {
    "LawEnforce": 3,
    "Passenger": 3,
    "Tug": 3,
}  # FUSAR-Ship categories that are not among the classes
_CLUTTER = 4  # chips without a ship
_SCENE_SHARES = (0.7, 0.1, 0.2)  # shares of the scenes for train, val and test


def scene_files(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the files of a simulated scene."""
    scene = arguments["scene"]
    if scene is not None:
        for name, file in {
            "scene": "scene.tif",
            "truth": "ships.gpkg",
            "land": "land.gpkg",
            "AIS": "ais.csv",
        }.items():
            yield f"{name:<12} {scene / file}"


@data_set("demo", notes=scene_files)
def prepare_demo(
    root: Path,
    scene: Path | None = None,
    jobs: int = 2,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    counts: Counts | None = None,
    scenes: int | None = None,
) -> ChipStore:
    """Simulate a long-tailed data set of SAR ship chips with four classes (FUSAR-Ship and SRSDD formats).

    All ships of an image of SRSDD go to one split. The remaining chips come from
    FUSAR-Ship, one per vessel.

    Args:
        scene: Folder for a simulated scene with such ships: scene.tif, ships.gpkg (the
            truth), land.gpkg and their messages, ais.csv (default: no scene).
        counts: number of chips by split and class; by default DEMO_COUNTS.
        scenes: number of simulated images of SRSDD; by default DEMO_SCENES.

    Raises:
        RequestError: `root` is not empty, or `scene` is not free, see
            `check_scene_folder_is_free`.
    """
    if scene is not None:
        check_scene_folder_is_free(scene, overwrite, seed)
    counts = counts or DEMO_COUNTS
    scenes = scenes or DEMO_SCENES
    store = _build_store(root, jobs, seed, overwrite, progress, counts, scenes)
    if scene is not None:
        prepare_demo_scene(scene, seed, overwrite)
    return store


def _build_store(
    root: Path,
    jobs: int,
    seed: int,
    overwrite: bool,
    progress: Progress | None,
    counts: Counts,
    scenes: int,
) -> ChipStore:
    """Simulate both archives, read them and build a chip store."""
    from rsft.data.chips.builder import build_store, find_finished_store, work_folders
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.formats.fusar_files import FUSARChips
    from rsft.data.datasets.formats.fusrs_classes import FUSAR_CLASSES
    from rsft.data.datasets.formats.srsdd_files import SRSDDShips
    from rsft.data.simulation.scene import write_fusar_tree, write_srsdd_tree
    from rsft.utils.atomic_files import work_folder
    from rsft.version import __version__

    command = format_prepare_command("demo", root=root, seed=seed)
    finished = find_finished_store(root, command, overwrite, counts)
    if finished:
        return finished
    *_, work = work_folders(root)
    request = [seed, counts, scenes, __version__]
    fingerprint = hashlib.sha256(
        json.dumps(request, sort_keys=True).encode()
    ).hexdigest()[:16]
    options: dict[str, Any] = {"seed": seed, "jobs": jobs, "progress": progress}
    with work_folder(work, fingerprint) as raw:
        if not Path(raw, "SRSDD").exists():  # an interrupted build has left it
            write_srsdd_tree(Path(raw, "SRSDD"), scenes, **options)
        srsdd = SRSDDShips(Path(raw, "SRSDD"))
        records, skipped = _scene_records(srsdd, counts, seed)
        available = Counter((record.split, record.label) for record in records)
        missing = {
            x: {name: n - available[x, name] for name, n in by_class.items()}
            for x, by_class in counts.items()
        }
        if not Path(raw, "FUSAR-Ship").exists():
            categories = {
                x: sum(by_class[name] for by_class in missing.values())
                for x, name in FUSAR_CLASSES.items()
            }
            write_fusar_tree(
                Path(raw, "FUSAR-Ship"),
                categories | _OTHER_CATEGORIES,
                clutter=_CLUTTER,
                **options,
            )
        fusar = FUSARChips(Path(raw, "FUSAR-Ship"))
        chip_records, chip_skipped = _chip_records(fusar, missing, seed)
        skipped += chip_skipped + srsdd.skipped + fusar.skipped
        description = StoreDescription(
            "simulated FUSRS v2, clean classes",
            DEMO_CLASSES,
            command,
            DEMO_GROUPS,
            skipped,
            rejected=[*srsdd.rejected, *fusar.rejected],
            license="MIT",  # as all images that rsft simulates
        )
        records += chip_records
        return build_store(
            root,
            records,
            description,
            overwrite=overwrite,
            progress=progress,
            jobs=jobs,
        )


def prepare_demo_scene(folder: Path, seed: int = 0, overwrite: bool = False) -> None:
    """Simulate a scene with ships of the demonstration's classes: scene.tif, ships.gpkg, land.gpkg, ais.csv.

    A scene of the same seed stays as it is.

    Raises:
        RequestError: `folder` is not free, see `check_scene_folder_is_free`.
    """
    from rsft.data.simulation.scene import SCENE_FILE, write_scene
    from rsft.utils.atomic_files import remove_stale_folders

    check_scene_folder_is_free(folder, overwrite, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if overwrite or not (folder / SCENE_FILE).is_file():
        write_scene(folder, seed=seed)
    remove_stale_folders(folder.parent)


def check_scene_folder_is_free(folder: Path, overwrite: bool, seed: int) -> None:
    """Check that a simulated scene can be written to a folder.

    Args:
        folder: folder of the scene.
        overwrite: whether an existing scene may be replaced.
        seed: seed of the scene. An existing scene of this seed is finished.

    Raises:
        RequestError: `folder` is a file, contains other files, or contains a scene that
            may not be replaced.
    """
    from rsft.data.simulation.scene import (
        AIS_FILE,
        LAND_FILE,
        SCENE_FILE,
        SHIPS_FILE,
        read_scene_seed,
    )

    if not folder.exists():
        return
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
    else:
        names = {folder.name}
    if names - {SCENE_FILE, SHIPS_FILE, LAND_FILE, AIS_FILE}:
        raise RequestError(
            "the folder contains other files",
            folder,
            "give another folder for the scene",
        )
    if names and not overwrite and read_scene_seed(folder) != seed:
        raise RequestError(
            "the scene exists already",
            folder,
            "give --overwrite to replace it, or another folder",
        )


def _scene_records(
    srsdd: SRSDDShips, counts: Counts, seed: int
) -> tuple[list[ChipRecord], Counter[str]]:
    """Make one record per ship of the classes, at most `counts` per split and class; count the skipped ships."""
    import numpy as np

    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import SPLITS
    from rsft.data.datasets.formats.fusrs_classes import SRSDD_CLASSES
    from rsft.data.datasets.formats.srsdd_files import SRSDD_SPACING_M
    from rsft.data.datasets.gaofen_chips import crop_srsdd_ship

    order = np.random.default_rng((seed, 1)).permutation(len(srsdd.images))
    boundaries = np.cumsum(_SCENE_SHARES)[:-1] * len(order)
    indices_of = dict(
        zip(SPLITS, np.split(order, np.rint(boundaries).astype(int)), strict=True)
    )
    split_of = {
        srsdd.images[index]: split for split in SPLITS for index in indices_of[split]
    }
    records = []
    skipped = Counter[str]()
    taken = Counter[tuple[str, str]]()
    for ship in srsdd.ships:
        split = split_of[ship.image]
        label = SRSDD_CLASSES.get(ship.category)
        if label is None:
            skipped[f"SRSDD {ship.category}: not among the classes"] += 1
        elif taken[split, label] == counts[split][label]:
            skipped[f"SRSDD {ship.category}: beyond the count of its class"] += 1
        else:
            taken[split, label] += 1
            columns = {
                "source": "simulated SRSDD",
                "sensor": "simulated",
                "spacing_m": SRSDD_SPACING_M,
            }
            columns |= {"polarisation": "HH", "box": ship.box_in_chip}
            inputs = (
                ship.label_file,
                partial(crop_srsdd_ship, ship),
                ship.line,
                DEMO_BANDS,
                columns,
            )
            records.append(ChipRecord(ship.name, split, label, *inputs))
    return records, skipped


def _chip_records(
    fusar: FUSARChips, counts: Counts, seed: int
) -> tuple[list[ChipRecord], Counter[str]]:
    """Make one record per chip of the classes, with random splits; count the skipped chips."""
    import numpy as np

    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import SPLITS
    from rsft.data.datasets.chip_names import make_chip_names
    from rsft.data.datasets.formats.fusrs_classes import FUSAR_CLASSES
    from rsft.data.datasets.gaofen_chips import fusar_columns

    rng = np.random.default_rng((seed, 2))
    splits = {
        x: iter(
            rng.permutation([y for y in SPLITS for _ in range(counts[y][x])]).tolist()
        )
        for x in DEMO_CLASSES
    }
    chips = [chip for chip in fusar.chips if chip.category in FUSAR_CLASSES]
    others = [
        chip.category for chip in fusar.chips if chip.category not in FUSAR_CLASSES
    ]
    skipped = Counter(
        f"FUSAR-Ship {category}: not among the classes" for category in others
    )
    names = make_chip_names(
        [chip.path for chip in chips], [chip.category for chip in chips], fusar.root
    )
    records = []
    for name, chip in zip(names, chips, strict=True):
        label = FUSAR_CLASSES[chip.category]
        columns = fusar_columns(chip, "simulated FUSAR-Ship", "simulated") | {
            "flags": ",".join(chip.flags)
        }
        records.append(
            ChipRecord(
                name,
                next(splits[label]),
                label,
                chip.path,
                bands=DEMO_BANDS,
                extra_columns=columns,
            )
        )
    return records, skipped
