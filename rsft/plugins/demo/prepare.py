"""Build the demonstration data: simulated SAR ships with the long tail of FUSRS v2.

The simulator writes FUSAR-Ship and SRSDD trees, and the parsers of the real archives
read them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rsft.data.prepare.registry import data_set
from rsft.data.prepare.store_build import StoreBuild
from rsft.errors import RequestError
from rsft.utils.command_options import Access, Option

if TYPE_CHECKING:
    from rsft.data.chips.class_names import Counts
    from rsft.data.chips.record import ChipRecord
    from rsft.data.chips.store import ChipStore
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

_SCENE_SHARES = (0.7, 0.1, 0.2)  # shares of the scenes for train, val and test


def scene_files(store: ChipStore, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the files of a simulated scene."""
    from rsft.plugins.demo.scene import SCENE_FILES

    scene = arguments["scene"]
    if scene is not None:
        for name, file in SCENE_FILES.items():
            yield f"{name:<12} {scene / file}"


@data_set("demo", notes=scene_files)
def prepare_demo(
    root: Path,
    scene: Annotated[Path | None, Option(access=Access.WRITE)] = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    counts: Counts | None = None,
    scenes: int | None = None,
    jobs: int = 2,
) -> ChipStore:
    """Simulate a long-tailed data set of SAR ship chips with four classes.

    The simulated archives have the formats of FUSAR-Ship and SRSDD. All ships of an
    image of SRSDD go to one split. The remaining chips come from FUSAR-Ship, one per
    vessel.

    Args:
        scene: Folder for a simulated scene with such ships: scene.tif, ships.gpkg (the
            truth), land.gpkg and their messages, ais.csv (default: no scene).
        counts: number of chips by split and class; by default DEMO_COUNTS.
        scenes: number of simulated images of SRSDD; by default DEMO_SCENES.
        jobs: number of parallel processes.

    Raises:
        RequestError: `root` is not empty, or `scene` is not free, see
            `check_scene_folder_is_free`.
    """
    if scene is not None:
        check_scene_folder_is_free(scene, overwrite, seed)
    build = StoreBuild("demo", root, {"seed": seed}, (), overwrite, progress, jobs)
    store = _build_store(build, seed, counts or DEMO_COUNTS, scenes or DEMO_SCENES)
    if scene is not None:
        prepare_demo_scene(scene, seed, overwrite)
    return store


def _build_store(
    build: StoreBuild, seed: int, counts: Counts, scenes: int
) -> ChipStore:
    """Simulate both archives, read them and build a chip store."""
    from rsft.data.chips.builder import find_finished_store, work_folders
    from rsft.data.chips.record import StoreDescription
    from rsft.data.datasets.formats.fusar_files import FUSARChips
    from rsft.data.datasets.formats.fusrs_classes import FUSAR_CLASSES
    from rsft.data.datasets.formats.srsdd_files import SRSDDShips
    from rsft.plugins.demo.archives import write_fusar_tree, write_srsdd_tree
    from rsft.utils.atomic_files import work_folder
    from rsft.utils.cell.client import allow_reading
    from rsft.version import __version__

    finished = find_finished_store(build.root, build.command, build.overwrite, counts)
    if finished:
        return finished
    *_, work = work_folders(build.root)
    request = json.dumps([seed, counts, scenes, __version__], sort_keys=True)
    fingerprint = hashlib.sha256(request.encode()).hexdigest()[:16]
    options: dict[str, Any] = {"jobs": build.jobs, "progress": build.progress}
    with work_folder(work, fingerprint) as raw:
        allow_reading(Path(raw))
        srsdd_root = Path(raw, "SRSDD")
        fusar_root = Path(raw, "FUSAR-Ship")
        if not srsdd_root.exists():  # an interrupted build has left it
            write_srsdd_tree(srsdd_root, scenes, seed=seed, **options)
        srsdd = SRSDDShips(srsdd_root)
        records, skipped = _scene_records(srsdd, counts, seed)
        missing = _count_missing(counts, records)
        if not fusar_root.exists():
            categories = {}
            for category, name in FUSAR_CLASSES.items():
                categories[category] = sum(split[name] for split in missing.values())
            write_fusar_tree(fusar_root, categories, seed=seed, **options)
        fusar = FUSARChips(fusar_root)
        records += _chip_records(fusar, missing, seed)
        description = StoreDescription(
            "simulated FUSRS v2, clean classes",
            DEMO_CLASSES,
            build.command,
            DEMO_GROUPS,
            skipped + srsdd.skipped,
            srsdd.rejected + fusar.rejected,
            license="MIT",  # as all images that rsft simulates
        )
        return build.write(records, description)


def _count_missing(counts: Counts, records: Iterable[ChipRecord]) -> Counts:
    """Return the number of chips by split and class that are not among the records."""
    available = Counter((record.split, record.label) for record in records)
    missing = {}
    for split, by_class in counts.items():
        missing[split] = {
            name: count - available[split, name] for name, count in by_class.items()
        }
    return missing


def prepare_demo_scene(folder: Path, seed: int = 0, overwrite: bool = False) -> None:
    """Simulate a scene with ships of the demonstration's classes.

    Its files are scene.tif, ships.gpkg, land.gpkg and ais.csv. A scene of the same seed
    stays as it is.

    Raises:
        RequestError: `folder` is not free, see `check_scene_folder_is_free`.
    """
    from rsft.plugins.demo.scene import SCENE_FILE, write_scene
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
    from rsft.plugins.demo.scene import SCENE_FILES, read_scene_seed

    if not folder.exists():
        return
    names = {folder.name}
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
    if not names <= {*SCENE_FILES.values()}:
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
    """Make one record per ship, at most `counts` per split and class.

    Returns:
        The records, and the number of skipped ships by reason.
    """
    import numpy as np

    from rsft.data.chips.manifest import SPLITS
    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.formats.fusrs_classes import SRSDD_CLASSES
    from rsft.data.datasets.gaofen_chips import crop_srsdd_ship, srsdd_columns

    order = np.random.default_rng((seed, 1)).permutation(len(srsdd.images))
    boundaries = np.rint(np.cumsum(_SCENE_SHARES)[:-1] * len(order)).astype(int)
    split_of: dict[Path, str] = {}
    for split, indices in zip(SPLITS, np.split(order, boundaries), strict=True):
        split_of |= dict.fromkeys([srsdd.images[index] for index in indices], split)
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
            columns = srsdd_columns(ship, "simulated SRSDD", "simulated")
            record = ChipRecord(
                ship.name,
                split,
                label,
                ship.label_file,
                partial(crop_srsdd_ship, ship),
                ship.line,
                DEMO_BANDS,
                {**columns, "polarisation": "HH"},
            )
            records.append(record)
    return records, skipped


def _chip_records(fusar: FUSARChips, counts: Counts, seed: int) -> list[ChipRecord]:
    """Make one record per chip, with random splits."""
    import numpy as np

    from rsft.data.chips.manifest import SPLITS
    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.chip_names import make_chip_names
    from rsft.data.datasets.formats.fusrs_classes import FUSAR_CLASSES
    from rsft.data.datasets.gaofen_chips import fusar_columns

    rng = np.random.default_rng((seed, 2))
    splits = {}
    for name in DEMO_CLASSES:
        numbers = [counts[split][name] for split in SPLITS]
        splits[name] = iter(rng.permutation(np.repeat(SPLITS, numbers)).tolist())
    records = []
    names = make_chip_names(
        [chip.path for chip in fusar.chips],
        [chip.category for chip in fusar.chips],
        fusar.root,
    )
    for name, chip in zip(names, fusar.chips, strict=True):
        label = FUSAR_CLASSES[chip.category]
        columns = fusar_columns(chip, "simulated FUSAR-Ship", "simulated")
        columns["flags"] = ",".join(chip.flags)
        split = next(splits[label])
        record = ChipRecord(
            name, split, label, chip.path, bands=DEMO_BANDS, extra_columns=columns
        )
        records.append(record)
    return records
