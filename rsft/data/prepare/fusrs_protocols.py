"""Which chip of FUSAR-Ship and SRSDD goes to which split and class of FUSRS v2, under either protocol."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rsft.data.chips.builder import Record
from rsft.data.datasets.fusar_ship import FUSARChip, FUSARShip
from rsft.data.datasets.fusrs import FUSAR_CLASSES, FUSAR_OTHER, REPEATED, SRSDD_CLASSES, SRSDD_OTHER, ListRow
from rsft.data.datasets.srsdd import SPACING_M, SRSDD, SRSDDShip, box_in_chip, cut_ship
from rsft.data.prepare._names import chip_names
from rsft.data.prepare.group_splits import split_groups
from rsft.types import Rejection
from rsft.utils.atomic_files import sha256

CONTRADICTS, AMBIGUOUS = "label-contradicts-annotation", "ambiguous-name"
"""Flags: the label of the list is not the archive's; several files have the name."""

Chip = FUSARChip | SRSDDShip

_FUSAR = FUSAR_CLASSES | dict.fromkeys(FUSAR_OTHER, "other")
_SRSDD = SRSDD_CLASSES | dict.fromkeys(SRSDD_OTHER, "other")
_SENSOR = "Gaofen-3"


@dataclass(frozen=True)
class Rows:
    """Records, and what did not become one."""

    records: list[Record] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


def published_rows(
    fusar: FUSARShip,
    srsdd: SRSDD,
    listed: Sequence[ListRow],
    faulty: Sequence[Rejection],
    classes: Sequence[str],
    val: float,
    seed: int,
) -> Rows:
    """One record a row of the lists; a row whose name neither archive holds is rejected, like those `faulty` already.

    The authors' chips lay in one folder, so a name that several files have can mean one of them only: the first by path
    among those whose folder is that of the category in the name, or among all. Further rows of a name in a split are
    called name__2, name__3 and so on. With `val`, whole groups of the training rows become the validation split.
    """
    rows = Rows(rejected=list(faulty))
    by_name: dict[str, list[Chip]] = defaultdict(list)
    chips: list[Chip] = [*fusar.chips, *srsdd.ships]
    for chip in chips:
        by_name[_name(chip)].append(chip)
    chosen = {name: min(alike, key=_misplaced) for name, alike in by_name.items()}  # the first of the best
    held = [row for row in listed if row.name in chosen]
    train = [row for row in held if row.split == "train"]
    labels, groups = [classes[row.label] for row in train], [_group(chosen[row.name]) for row in train]
    dealt = split_groups(labels, groups, {"train": 1 - val, "val": val}, seed)
    seen: Counter[tuple[str, str]] = Counter()
    for row in held:
        chip, label = chosen[row.name], classes[row.label]
        seen[row.split, row.name] += 1
        times = seen[row.split, row.name]
        met = {REPEATED: times > 1, CONTRADICTS: label != own_class(chip), AMBIGUOUS: len(by_name[row.name]) > 1}
        name = row.name if times == 1 else f"{row.name}__{times}"
        split = dealt[_group(chip)] if row.split == "train" else row.split
        rows.records.append(_record(chip, name, split, label, _group(chip), [flag for flag in met if met[flag]]))
    rows.rejected.extend(
        (str(row.file), row.line, f"neither archive holds {row.name}") for row in listed if row.name not in chosen
    )
    names = {row.name for row in held}
    for name, alike in by_name.items():
        reason = "another file of a listed name" if name in names else "in no list"
        rows.skipped[f"{_source(alike[0])}: {reason}"] += len(alike) - (name in names)
    return _tidy(rows)


def clean_rows(
    fusar: FUSARShip, srsdd: SRSDD, classes: Sequence[str], shares: Mapping[str, float], seed: int, jobs: int
) -> Rows:
    """One record a content: the archive's own category decides the class, and no group is in two splits.

    A group is an SRSDD image or a FUSAR-Ship vessel; a chip without an MMSI is a group by itself. Contents that stand
    in several categories are rejected, as nobody can say which is right. Each class has its share of either archive.
    """
    rows = Rows()
    images = dict(zip(srsdd.images, _digests(srsdd.images, jobs), strict=True))
    files = _digests([chip.path for chip in fusar.chips], jobs)
    contents: dict[Hashable, list[Chip]] = defaultdict(list)
    for file, digest in zip(fusar.chips, files, strict=True):
        contents[digest].append(file)
    for ship in srsdd.ships:
        contents[images[ship.image], ship.window].append(ship)
    wanted: list[Chip] = []
    for first, *others in contents.values():
        label = own_class(first)
        if any(other.category != first.category for other in others):
            found = ", ".join(sorted({chip.category for chip in (first, *others)}))
            rows.rejected.extend((*_place(chip), f"the same content is {found}") for chip in (first, *others))
            continue
        rows.skipped[f"{_source(first)}: content that is there already"] += len(others)
        if label in classes:
            wanted.append(first)
        else:
            rows.skipped[f"{_source(first)} {first.category}: not among the classes"] += 1
    first_of = {digest: image for image, digest in reversed(images.items())}
    groups = [_group(chip, first_of[images[chip.image]] if isinstance(chip, SRSDDShip) else None) for chip in wanted]
    labels = [str(own_class(chip)) for chip in wanted]
    strata = [f"{_source(chip)} {label}" for chip, label in zip(wanted, labels, strict=True)]
    split_of = split_groups(strata, groups, shares, seed)
    for chip, label, group, name in zip(wanted, labels, groups, _unique_names(wanted, labels, fusar), strict=True):
        rows.records.append(_record(chip, name, split_of[group], label, group, []))
    return _tidy(rows)


def own_class(chip: Chip) -> str | None:
    """What the archive's own category is in FUSRS v2 with five classes; None where the category says nothing."""
    return (_FUSAR if isinstance(chip, FUSARChip) else _SRSDD).get(chip.category)


def _tidy(rows: Rows) -> Rows:
    """Records of one image one after the other, so that it is decoded once."""
    rows.records.sort(key=lambda record: (record.origin, record.line, record.name))
    return Rows(rows.records, +rows.skipped, rows.rejected)


def _record(chip: Chip, name: str, split: str, label: str, group: str, flags: list[str]) -> Record:
    facts: dict[str, Any] = {"source": _source(chip), "sensor": _SENSOR, "group_key": group}
    if isinstance(chip, SRSDDShip):
        facts |= {"spacing_m": SPACING_M, "box": box_in_chip(chip), "flags": ",".join(flags)}
        cut, images = partial(cut_ship, chip), (chip.image,)
        return Record(name, split, label, chip.label_file, cut, chip.line, facts=facts, images=images)
    facts |= {"spacing_m": chip.spacing_m, "polarisation": chip.polarisation, "incidence_deg": chip.incidence_deg}
    facts |= {"mmsi": chip.mmsi, "flags": ",".join([*chip.flags, *flags])}
    return Record(name, split, label, chip.path, facts=facts)


def _unique_names(chips: Sequence[Chip], labels: Sequence[str], fusar: FUSARShip) -> list[str]:
    """File names, with the folders where they collide in a class; L<stem>_<k> where two images are one number."""
    label_of = {chip.path: label for chip, label in zip(chips, labels, strict=True) if isinstance(chip, FUSARChip)}
    name_of = dict(zip(label_of, chip_names([*label_of], [*label_of.values()], fusar.root), strict=True))
    times = Counter(_name(chip) for chip in chips)

    def ship_name(ship: SRSDDShip) -> str:
        return ship.name if times[ship.name] == 1 else f"L{ship.image.stem}_{ship.number}"

    return [name_of[chip.path] if isinstance(chip, FUSARChip) else ship_name(chip) for chip in chips]


def _digests(paths: Sequence[Path], jobs: int) -> list[str]:
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    """Of the content; a file that cannot be read is like no other, and the build will say so."""
    try:
        return sha256(path)
    except OSError:
        return str(path)


def _name(chip: Chip) -> str:
    return chip.path.stem if isinstance(chip, FUSARChip) else chip.name


def _misplaced(chip: Chip) -> bool:
    """Whether the folder is not that of the category in the name."""
    return isinstance(chip, FUSARChip) and "category-index" in chip.flags


def _group(chip: Chip, image: Path | None = None) -> str:
    if isinstance(chip, SRSDDShip):
        return f"SRSDD {(image or chip.image).stem}"
    known = chip.mmsi is not None and chip.mmsi.strip("0") != ""
    return f"MMSI {chip.mmsi}" if known else f"FUSAR-Ship {chip.category}/{chip.subcategory}/{chip.path.stem}"


def _source(chip: Chip) -> str:
    return "FUSAR-Ship" if isinstance(chip, FUSARChip) else "SRSDD"


def _place(chip: Chip) -> tuple[str, int]:
    return (str(chip.path), 0) if isinstance(chip, FUSARChip) else (str(chip.label_file), chip.line)
