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

_SCENE_LIMITS = (0.7, 0.8)  # shares of the scenes, in random order, where splits end


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
    with work_folder(work, fingerprint) as raw:
        allow_reading(Path(raw))
        srsdd_root = Path(raw, "SRSDD")
        fusar_root = Path(raw, "FUSAR-Ship")
        if not srsdd_root.exists():  # an interrupted build has left it
            write_srsdd_tree(
                srsdd_root, scenes, seed=seed, jobs=build.jobs, progress=build.progress
            )
        srsdd = SRSDDShips(srsdd_root)
        missing = {split: dict(by_class) for split, by_class in counts.items()}
        records, skipped = _scene_records(srsdd, missing, seed)
        if not fusar_root.exists():
            categories = Counter[str]()
            for by_class in missing.values():
                categories.update({name.title(): by_class[name] for name in by_class})
            write_fusar_tree(
                fusar_root,
                categories,
                seed=seed,
                jobs=build.jobs,
                progress=build.progress,
            )
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
    files = {*SCENE_FILES.values()}
    names = {folder.name}
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
    if names - files:
        raise RequestError(
            "the folder contains other files",
            folder,
            "give another folder for the scene",
        )
    is_finished = names == files and read_scene_seed(folder) == str(seed)
    if names and not overwrite and not is_finished:
        raise RequestError(
            "the scene exists already",
            folder,
            "give --overwrite to replace it, or another folder",
        )


def _scene_records(
    srsdd: SRSDDShips, missing: dict[str, dict[str, int]], seed: int
) -> tuple[list[ChipRecord], Counter[str]]:
    """Make one record per ship, as long as chips of its split and class are missing.

    Args:
        srsdd: the simulated images.
        missing: number of missing chips by split and class; changed in place.
        seed: seed of the splits.

    Returns:
        The records, and the number of skipped ships by reason.
    """
    import numpy as np

    from rsft.data.chips.manifest import SPLITS
    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.formats.fusrs_classes import SRSDD_CLASSES
    from rsft.data.datasets.gaofen_chips import crop_srsdd_ship, srsdd_columns

    order = np.random.default_rng((seed, 1)).permutation(len(srsdd.images))
    ranks = (np.arange(len(order)) + 0.5) / len(order)
    splits = np.searchsorted(_SCENE_LIMITS, ranks)
    split_of = {srsdd.images[x]: SPLITS[y] for x, y in zip(order, splits, strict=True)}
    records = []
    skipped = Counter[str]()
    for ship in srsdd.ships:
        split = split_of[ship.image]
        label = SRSDD_CLASSES.get(ship.category)
        if label is None:
            skipped[f"SRSDD {ship.category}: not among the classes"] += 1
            continue
        if not missing[split][label]:
            skipped[f"SRSDD {ship.category}: beyond the count of its class"] += 1
            continue
        missing[split][label] -= 1
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

    from rsft.data.chips.record import ChipRecord
    from rsft.data.datasets.gaofen_chips import fusar_columns

    rng = np.random.default_rng((seed, 2))
    splits = {}
    for name in DEMO_CLASSES:
        numbers = [by_class[name] for by_class in counts.values()]
        splits[name] = rng.permutation(np.repeat(list(counts), numbers)).tolist()
    records = []
    for chip in fusar.chips:
        label = chip.category.lower()
        columns = fusar_columns(chip, "simulated FUSAR-Ship", "simulated")
        columns["flags"] = ",".join(chip.flags)
        record = ChipRecord(
            chip.path.stem,
            splits[label].pop(0),
            label,
            chip.path,
            bands=DEMO_BANDS,
            extra_columns=columns,
        )
        records.append(record)
    return records
