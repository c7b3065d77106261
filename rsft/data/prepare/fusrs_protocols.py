"""Split and class of each FUSAR-Ship and SRSDD chip in FUSRS v2, by either protocol."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rsft.data.chips.builder import ChipRecord
from rsft.data.datasets.fusar_ship import FUSARChip, FUSARShip
from rsft.data.datasets.fusrs import (
    FUSAR_TO_FUSRS,
    REPEATED_ROW_FLAG,
    SRSDD_TO_FUSRS,
    FUSRSListRow,
)
from rsft.data.datasets.srsdd import SRSDD, SRSDD_SPACING_M, SRSDDShip, crop_ship
from rsft.data.prepare._names import full_chip_name
from rsft.data.prepare.group_splits import split_groups
from rsft.types import Rejection
from rsft.utils.atomic_files import sha256

CONTRADICTION_FLAG = "label-contradicts-annotation"
"""Flag of a chip whose label in the list differs from its category in the archive."""
AMBIGUOUS_NAME_FLAG = "ambiguous-name"
"""Flag of a chip whose name several files of the archives share."""

_SENSOR = "Gaofen-3"


@dataclass(frozen=True)
class ProtocolRecords:
    """The records of a protocol, and the inputs that did not become one.

    Attributes:
        records: sorted by source file, so that each image is decoded once.
        skipped: number of inputs that the protocol leaves out, by reason.
        rejected: inputs that cannot be used.
    """

    records: list[ChipRecord] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class _ArchiveChip:
    """A chip of either archive, in the terms that the protocols share.

    Attributes:
        archive: "FUSAR-Ship" or "SRSDD".
        category: the class in the archive.
        fusrs_class: the class in FUSRS v2 with five classes; None if the category does not determine it.
        group: the scene or vessel, which two splits must not share.
        name: the name in the authors' lists.
        full_name: the name to use where `name` is not unique.
        unique_per_class: whether `name` must be unique within its class only, not among all chips.
        record: the record of the chip; `_finish_record` sets its name, split, class, group and flags.
        flags: flags from the archive.
    """

    archive: str
    category: str
    fusrs_class: str | None
    group: str
    name: str
    full_name: str
    unique_per_class: bool
    record: ChipRecord
    flags: tuple[str, ...] = ()


def _fusar_chip(chip: FUSARChip, root: Path) -> _ArchiveChip:
    has_mmsi = chip.mmsi is not None and chip.mmsi.strip("0") != ""
    columns = {
        "source": "FUSAR-Ship",
        "sensor": _SENSOR,
        "spacing_m": chip.spacing_m,
        "polarisation": chip.polarization,
        "incidence_deg": chip.incidence_deg,
        "mmsi": chip.mmsi,
    }
    return _ArchiveChip(
        archive="FUSAR-Ship",
        category=chip.category,
        fusrs_class=FUSAR_TO_FUSRS.get(chip.category),
        group=f"MMSI {chip.mmsi}" if has_mmsi else f"FUSAR-Ship {chip.category}/{chip.subcategory}/{chip.path.stem}",
        name=chip.path.stem,
        full_name=full_chip_name(chip.path, root),
        unique_per_class=True,
        record=ChipRecord("", "", "", chip.path, extra_columns=columns),
        flags=chip.flags,
    )


def _srsdd_chip(ship: SRSDDShip, scene: Path) -> _ArchiveChip:
    """Wrap a ship; `scene` is the image that stands for all images with the same content."""
    columns = {"source": "SRSDD", "sensor": _SENSOR, "spacing_m": SRSDD_SPACING_M, "box": ship.box_in_chip}
    return _ArchiveChip(
        archive="SRSDD",
        category=ship.category,
        fusrs_class=SRSDD_TO_FUSRS.get(ship.category),
        group=f"SRSDD {scene.stem}",
        name=ship.name,
        full_name=f"L{ship.image.stem}_{ship.number}",
        unique_per_class=False,
        record=ChipRecord(
            *("", "", "", ship.label_file),
            partial(crop_ship, ship),
            ship.line,
            extra_columns=columns,
            image_paths=(ship.image,),
        ),
    )


def published_records(
    fusar: FUSARShip,
    srsdd: SRSDD,
    rows: Sequence[FUSRSListRow],
    rejected: Sequence[Rejection],
    classes: Sequence[str],
    val: float,
    seed: int,
) -> ProtocolRecords:
    """Make one record per row of the authors' lists.

    The authors kept their chips in one folder, so a name stands for one file. Where several files have the name, the
    first by path is taken among those whose folder agrees with the category in the name, otherwise among all. Repeated
    rows of a name in a split are called name__2, name__3 and so on.

    Args:
        fusar: the FUSAR-Ship archive.
        srsdd: the SRSDD archive.
        rows: rows of both lists.
        rejected: rows of the lists that could not be read; they are passed on.
        classes: class names in the order of the labels.
        val: share of the training rows for validation, in whole groups.
        seed: seed of the validation split.

    Returns:
        The records. Rows whose name is in neither archive are rejected; chips that no list names are skipped.
    """
    result = ProtocolRecords(rejected=list(rejected))
    chips_by_name: dict[str, list[_ArchiveChip]] = defaultdict(list)
    for chip in _archive_chips(fusar, srsdd, {image: image for image in srsdd.images}):
        chips_by_name[chip.name].append(chip)
    chosen = {  # `min` takes the first chip without the flag, or else the first
        name: min(chips, key=lambda chip: "category-index" in chip.flags) for name, chips in chips_by_name.items()
    }
    usable = [row for row in rows if row.name in chosen]
    train = [row for row in usable if row.split == "train"]
    labels, groups = [classes[row.label] for row in train], [chosen[row.name].group for row in train]
    split_of = split_groups(labels, groups, {"train": 1 - val, "val": val}, seed)
    counts: Counter[tuple[str, str]] = Counter()
    for row in usable:
        chip, label = chosen[row.name], classes[row.label]
        counts[row.split, row.name] += 1
        count = counts[row.split, row.name]
        flags = {
            REPEATED_ROW_FLAG: count > 1,
            CONTRADICTION_FLAG: label != chip.fusrs_class,
            AMBIGUOUS_NAME_FLAG: len(chips_by_name[row.name]) > 1,
        }
        name = row.name if count == 1 else f"{row.name}__{count}"
        split = split_of[chip.group] if row.split == "train" else row.split
        result.records.append(_finish_record(chip, name, split, label, [flag for flag in flags if flags[flag]]))
    result.rejected.extend(
        (str(row.file), row.line, f"{row.name} is in neither archive") for row in rows if row.name not in chosen
    )
    names = {row.name for row in usable}
    for name, chips in chips_by_name.items():
        reason = "another file of a listed name" if name in names else "in no list"
        result.skipped[f"{chips[0].archive}: {reason}"] += len(chips) - (name in names)
    return _sort_records(result)


def clean_records(
    fusar: FUSARShip, srsdd: SRSDD, classes: Sequence[str], shares: Mapping[str, float], seed: int, jobs: int
) -> ProtocolRecords:
    """Make one record per distinct chip content, with the class from the archive and no group in two splits.

    A group is an SRSDD image or a FUSAR-Ship vessel; a chip without an MMSI is a group by itself. A content that
    occurs in several categories is rejected, because the archive does not show which one is right.

    Args:
        fusar: the FUSAR-Ship archive.
        srsdd: the SRSDD archive.
        classes: class names; chips of other classes are skipped.
        shares: share of each split; each class comes near it within each archive.
        seed: seed of the splits.
        jobs: number of threads that read the files.

    Returns:
        The records, the skipped duplicates and other classes, and the rejected contradictions.
    """
    result = ProtocolRecords()
    image_digests = dict(zip(srsdd.images, _digests(srsdd.images, jobs), strict=True))
    first_image = {digest: image for image, digest in reversed(image_digests.items())}
    contents: list[Hashable] = list(_digests([chip.path for chip in fusar.chips], jobs))
    contents += [(image_digests[ship.image], ship.window) for ship in srsdd.ships]
    chips = _archive_chips(fusar, srsdd, {image: first_image[digest] for image, digest in image_digests.items()})
    chips_by_content: dict[Hashable, list[_ArchiveChip]] = defaultdict(list)
    for content, chip in zip(contents, chips, strict=True):
        chips_by_content[content].append(chip)
    selected: list[tuple[_ArchiveChip, str]] = []
    for first, *others in chips_by_content.values():
        if any(other.category != first.category for other in others):
            categories = ", ".join(sorted({chip.category for chip in (first, *others)}))
            result.rejected.extend(
                (str(chip.record.source_path), chip.record.line, f"the same content has the categories {categories}")
                for chip in (first, *others)
            )
            continue
        result.skipped[f"{first.archive}: repeated content"] += len(others)
        if first.fusrs_class in classes:
            selected.append((first, str(first.fusrs_class)))
        else:
            result.skipped[f"{first.archive} {first.category}: not among the classes"] += 1
    strata = [f"{chip.archive} {label}" for chip, label in selected]
    split_of = split_groups(strata, [chip.group for chip, _ in selected], shares, seed)
    for (chip, label), name in zip(selected, _unique_names(selected), strict=True):
        result.records.append(_finish_record(chip, name, split_of[chip.group], label))
    return _sort_records(result)


def _archive_chips(fusar: FUSARShip, srsdd: SRSDD, scene_of: Mapping[Path, Path]) -> list[_ArchiveChip]:
    chips = [_fusar_chip(chip, fusar.root) for chip in fusar.chips]
    return chips + [_srsdd_chip(ship, scene_of[ship.image]) for ship in srsdd.ships]


def _finish_record(chip: _ArchiveChip, name: str, split: str, label: str, flags: Sequence[str] = ()) -> ChipRecord:
    columns = {**chip.record.extra_columns, "group_key": chip.group, "flags": ",".join([*chip.flags, *flags])}
    return replace(chip.record, name=name, split=split, label=label, extra_columns=columns)


def _sort_records(result: ProtocolRecords) -> ProtocolRecords:
    """Sort the records so that those of one image follow each other; drop reasons that never occurred."""
    result.records.sort(key=lambda record: (record.source_path, record.line, record.name))
    return ProtocolRecords(result.records, +result.skipped, result.rejected)


def _unique_names(selected: Sequence[tuple[_ArchiveChip, str]]) -> list[str]:
    counts = Counter((label if chip.unique_per_class else "", chip.name) for chip, label in selected)
    return [
        chip.name if counts[label if chip.unique_per_class else "", chip.name] == 1 else chip.full_name
        for chip, label in selected
    ]


def _digests(paths: Sequence[Path], jobs: int) -> list[str]:
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or its path if it cannot be read; the build reports that file later."""
    try:
        return sha256(path)
    except OSError:
        return str(path)
