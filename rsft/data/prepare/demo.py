"""The demonstration data: simulated SAR ships, read as the real archives would be, with the long tail of FUSRS v2."""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from rsft.data.chips.builder import Plan, Record, build_store, check_free
from rsft.data.chips.store import SPLITS, ChipStore
from rsft.data.chips.summary import Counts
from rsft.data.datasets import fusrs
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import FUSAR_CLASSES, SRSDD_CLASSES
from rsft.data.datasets.srsdd import SPACING_M, SRSDD, box_in_chip, cut_ship
from rsft.data.prepare._command import prepare_command
from rsft.data.prepare._names import chip_names
from rsft.data.simulation.writer import write_fusar_tree, write_srsdd_tree
from rsft.types import Progress

CLASSES = fusrs.CLASSES[4]
GROUPS = {"head": ["cargo", "fishing"], "medium": [], "tail": ["tanker", "dredger"]}
"""As the paper has them for FUSRS v2, whatever the counts."""

BANDS = ("HH",)
COUNTS: Counts = {
    "train": {"cargo": 320, "fishing": 110, "tanker": 30, "dredger": 16},
    "val": dict.fromkeys(CLASSES, 15),
    "test": dict.fromkeys(CLASSES, 50),
}
_OTHERS = {"LawEnforce": 3, "Passenger": 3, "Tug": 3}  # FUSAR-Ship categories that the classes leave out
_CLUTTER = 4  # chips without a ship
_SCENE_SHARES = (0.7, 0.1, 0.2)  # of the scenes, in the order of SPLITS


def prepare_demo(
    root: Path,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    *,
    jobs: int = 2,
    counts: Counts = COUNTS,
    scenes: int = 20,
) -> ChipStore:
    """Simulate both archives, read them and build a chip store of `counts[split][class]` chips.

    A scene goes to one split with all its ships; FUSAR-Ship chips, a vessel each, fill what the scenes leave open.

    Raises:
        RequestError: `root` is taken.
    """
    check_free(root, overwrite)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=root.parent) as raw:
        write_srsdd_tree(Path(raw, "SRSDD"), scenes, seed=seed, jobs=jobs, progress=progress)
        srsdd = SRSDD(Path(raw, "SRSDD"))
        records, skipped = _from_scenes(srsdd, counts, seed)
        wanted = _still_wanted(records, counts)
        categories = {
            category: sum(wanted[split][name] for split in SPLITS) for category, name in FUSAR_CLASSES.items()
        }
        write_fusar_tree(
            Path(raw, "FUSAR-Ship"), categories | _OTHERS, seed=seed, clutter=_CLUTTER, jobs=jobs, progress=progress
        )
        fusar = FUSARShip(Path(raw, "FUSAR-Ship"))
        more, left_out = _from_chips(fusar, wanted, seed)
        plan = Plan(
            name="simulated FUSRS v2, clean classes",
            classes=CLASSES,
            command=prepare_command("demo", root=root, seed=seed),
            groups=GROUPS,
            skipped=skipped + left_out + srsdd.skipped + fusar.skipped,
            rejected=[*srsdd.rejected, *fusar.rejected],
        )
        return build_store(root, records + more, plan, overwrite=overwrite, progress=progress, jobs=jobs)


def _from_scenes(srsdd: SRSDD, counts: Counts, seed: int) -> tuple[list[Record], Counter[str]]:
    """One record a ship of a wanted class, no more than `counts`."""
    order = np.random.default_rng((seed, 1)).permutation(len(srsdd.images))
    shares = np.cumsum(_SCENE_SHARES)[:-1] * len(order)
    dealt = dict(zip(SPLITS, np.split(order, np.rint(shares).astype(int)), strict=True))
    split_of = {srsdd.images[index]: split for split in SPLITS for index in dealt[split]}
    records, skipped, taken = [], Counter[str](), Counter[tuple[str, str]]()
    for ship in srsdd.ships:
        split, label = split_of[ship.image], SRSDD_CLASSES.get(ship.category)
        if label is None:
            skipped[f"SRSDD {ship.category}: not among the classes"] += 1
        elif taken[split, label] == counts[split][label]:
            skipped[f"SRSDD {ship.category}: more than the long tail takes"] += 1
        else:
            taken[split, label] += 1
            facts = {"source": "simulated SRSDD", "sensor": "simulated", "spacing_m": SPACING_M, "polarisation": "HH"}
            facts["box"] = box_in_chip(ship)
            cut = partial(cut_ship, ship)
            records.append(Record(ship.name, split, label, ship.label_file, cut, ship.line, BANDS, facts))
    return records, skipped


def _still_wanted(records: list[Record], counts: Counts) -> Counts:
    have = Counter((record.split, record.label) for record in records)
    return {split: {name: counts[split][name] - have[split, name] for name in CLASSES} for split in SPLITS}


def _from_chips(fusar: FUSARShip, wanted: Counts, seed: int) -> tuple[list[Record], Counter[str]]:
    """One record a chip of a wanted class; the splits of a class are dealt at random."""
    rng = np.random.default_rng((seed, 2))
    splits = {
        label: iter(rng.permutation([split for split in SPLITS for _ in range(wanted[split][label])]).tolist())
        for label in CLASSES
    }
    chips = [chip for chip in fusar.chips if chip.category in FUSAR_CLASSES]
    others = Counter(
        f"FUSAR-Ship {chip.category}: not among the classes"
        for chip in fusar.chips
        if chip.category not in FUSAR_CLASSES
    )
    names = chip_names([chip.path for chip in chips], [chip.category for chip in chips], fusar.root)
    records = []
    for name, chip in zip(names, chips, strict=True):
        label = FUSAR_CLASSES[chip.category]
        facts = {
            "source": "simulated FUSAR-Ship",
            "sensor": "simulated",
            "spacing_m": chip.spacing_m,
            "polarisation": chip.polarisation,
            "incidence_deg": chip.incidence_deg,
            "mmsi": chip.mmsi,
            "flags": ",".join(chip.flags),
        }
        records.append(Record(name, next(splits[label]), label, chip.path, bands=BANDS, facts=facts))
    return records, others
