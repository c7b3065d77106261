"""Split and class of each FUSAR-Ship and SRSDD chip in FUSRS v2, by either protocol."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rsft.data.chips.record import ChipRecord
from rsft.data.datasets._fusar_files import FUSARChip
from rsft.data.datasets._srsdd_files import (
    FUSAR_TO_FUSRS,
    REPEATED_ROW_FLAG,
    SRSDD_SPACING_M,
    SRSDD_TO_FUSRS,
    SRSDDShip,
)
from rsft.data.datasets.common import (
    crop_srsdd_ship,
    full_chip_name,
    read_gray_chip,
    split_groups,
    translate_dataset_errors,
)
from rsft.data.datasets.fusrs_sources import FUSAR_NAME, SRSDD_NAME, FUSRSSources
from rsft.data.imagery.reader import open_image
from rsft.errors import DataError
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
        archive: FUSAR_NAME or SRSDD_NAME.
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
        "source": FUSAR_NAME,
        "sensor": _SENSOR,
        "spacing_m": chip.spacing_m,
        "polarisation": chip.polarization,
        "incidence_deg": chip.incidence_deg,
        "mmsi": chip.mmsi,
    }
    read_pixels = None
    with suppress(DataError):  # the build reports the fault
        if chip.path.suffix.lower() == ".png":  # the published TIFF files have one band
            with open_image(chip.path) as image:
                read_pixels = partial(read_gray_chip, chip.path) if len(image.getbands()) > 1 else None
    return _ArchiveChip(
        archive=FUSAR_NAME,
        category=chip.category,
        fusrs_class=FUSAR_TO_FUSRS.get(chip.category),
        group=f"MMSI {chip.mmsi}" if has_mmsi else f"FUSAR-Ship {chip.category}/{chip.subcategory}/{chip.name}",
        name=chip.name,
        full_name=full_chip_name(chip.path, root),
        unique_per_class=True,
        record=ChipRecord("", "", "", chip.path, read_pixels, extra_columns=columns),
        flags=chip.flags,
    )


def _srsdd_chip(ship: SRSDDShip, scene: Path) -> _ArchiveChip:
    """Wrap a ship; `scene` is the image that stands for all images with the same content."""
    columns = {"source": SRSDD_NAME, "sensor": _SENSOR, "spacing_m": SRSDD_SPACING_M, "box": ship.box_in_chip}
    return _ArchiveChip(
        archive=SRSDD_NAME,
        category=ship.category,
        fusrs_class=SRSDD_TO_FUSRS.get(ship.category),
        group=f"SRSDD {scene.stem}",
        name=ship.name,
        full_name=f"L{ship.image.stem}_{ship.number}",
        unique_per_class=False,
        record=ChipRecord(
            *("", "", "", ship.label_file),
            partial(crop_srsdd_ship, ship),
            ship.line,
            extra_columns=columns,
            image_paths=(ship.image,),
        ),
    )


def published_records(
    sources: FUSRSSources, lists: Path, classes: Sequence[str], val: float, seed: int
) -> ProtocolRecords:
    """Make one record per row of the authors' lists, as `FUSRS` reads them.

    The authors kept their chips in one folder, so a name stands for one file. Where several files have the name, the
    first by path is taken among those whose folder agrees with the category in the name, otherwise among all. Repeated
    rows of a name in a split are called name__2, name__3 and so on.

    Args:
        sources: the archives.
        lists: folder of the lists.
        classes: class names in the order of the labels.
        val: share of the training rows for validation, in whole groups.
        seed: seed of the validation split.

    Returns:
        The records. Rows whose name is in neither archive are rejected; chips that no list names are skipped.

    Raises:
        DataError: a list cannot be used.
    """
    from rsft.data.datasets.fusrs import FUSRS

    with translate_dataset_errors("the list", lists, "copy or download the lists again"):
        datasets = [
            FUSRS(lists, split, len(classes), fusar_chips=sources.chips, srsdd_ships=sources.ships)
            for split in FUSRS.splits
        ]
    result = ProtocolRecords(rejected=[rejection for dataset in datasets for rejection in dataset.rejected])
    rows, chips_by_name = [row for dataset in datasets for row in dataset.rows], datasets[0].chips
    root = _common_folder(sources)
    chosen = {row.name: _archive_chip(chips_by_name[row.name][0], root) for row in rows}
    train = [row for row in rows if row.split == "train"]
    labels, groups = [classes[row.label] for row in train], [chosen[row.name].group for row in train]
    split_of = split_groups(labels, groups, {"train": 1 - val, "val": val}, seed)
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
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
    for name, chips in chips_by_name.items():
        reason = "another file of a listed name" if name in chosen else "in no list"
        archive = FUSAR_NAME if isinstance(chips[0], FUSARChip) else SRSDD_NAME
        result.skipped[f"{archive}: {reason}"] += len(chips) - (name in chosen)
    return _sort_records(result)


def clean_records(
    sources: FUSRSSources, classes: Sequence[str], shares: Mapping[str, float], seed: int, jobs: int
) -> ProtocolRecords:
    """Make one record per distinct chip content, with the class from the archive and no group in two splits.

    A group is an SRSDD image or a FUSAR-Ship vessel; a chip without an MMSI is a group by itself. A content that
    occurs in several categories is rejected, because the archive does not show which one is right.

    Args:
        sources: the archives.
        classes: class names; chips of other classes are skipped.
        shares: share of each split; each class comes near it within each archive.
        seed: seed of the splits.
        jobs: number of threads that read the files.

    Returns:
        The records, the skipped duplicates and other classes, and the rejected contradictions.
    """
    result = ProtocolRecords()
    image_digests = dict(zip(sources.images, _digests(sources.images, jobs), strict=True))
    first_image = {digest: image for image, digest in reversed(image_digests.items())}
    contents: list[Hashable] = list(_digests([chip.path for chip in sources.chips], jobs))
    contents += [(image_digests[ship.image], ship.window) for ship in sources.ships]
    root = _common_folder(sources)
    chips = [_archive_chip(chip, root) for chip in sources.chips]
    chips += [_srsdd_chip(ship, first_image[image_digests[ship.image]]) for ship in sources.ships]
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
    spaces = [(label if chip.unique_per_class else "", chip.name) for chip, label in selected]
    counts = Counter(spaces)
    for (chip, label), space in zip(selected, spaces, strict=True):
        name = chip.name if counts[space] == 1 else chip.full_name
        result.records.append(_finish_record(chip, name, split_of[chip.group], label))
    return _sort_records(result)


def _archive_chip(chip: FUSARChip | SRSDDShip, root: Path) -> _ArchiveChip:
    return _fusar_chip(chip, root) if isinstance(chip, FUSARChip) else _srsdd_chip(chip, chip.image)


def _common_folder(sources: FUSRSSources) -> Path:
    """Return the deepest folder that contains all chips of FUSAR-Ship."""
    return Path(os.path.commonpath([chip.path.parent for chip in sources.chips] or [Path()]))


def _finish_record(chip: _ArchiveChip, name: str, split: str, label: str, flags: Sequence[str] = ()) -> ChipRecord:
    columns = {**chip.record.extra_columns, "group_key": chip.group, "flags": ",".join([*chip.flags, *flags])}
    return replace(chip.record, name=name, split=split, label=label, extra_columns=columns)


def _sort_records(result: ProtocolRecords) -> ProtocolRecords:
    """Sort the records so that those of one image follow each other; drop reasons that never occurred."""
    result.records.sort(key=lambda record: (record.source_path, record.line, record.name))
    return ProtocolRecords(result.records, +result.skipped, result.rejected)


def _digests(paths: Sequence[Path], jobs: int) -> list[str]:
    """Return the SHA-256 of files, or the path of one that cannot be read; the build reports it later."""

    def digest(path: Path) -> str:
        try:
            return sha256(path)
        except OSError:
            return str(path)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(digest, paths))
