"""Split and class of each FUSAR-Ship and SRSDD chip in FUSRS v2, by either protocol.

Archives that would give a wrong chip store are refused.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from rsft.data.chips.builder import source_names
from rsft.data.chips.group_splits import split_groups
from rsft.data.chips.record import ChipRecord, describe_rejections
from rsft.data.datasets.archive_search import PublishedArchive, Sources
from rsft.data.datasets.box_contrast import check_contrast
from rsft.data.datasets.chip_names import full_chip_name
from rsft.data.datasets.formats.fusar_files import CONTRADICTION, FUSARChip, FUSARChips
from rsft.data.datasets.formats.fusrs_classes import (
    FUSAR_TO_FUSRS,
    REPEATED_ROW_FLAG,
    SRSDD_TO_FUSRS,
)
from rsft.data.datasets.formats.gray_images import have_same_pixels
from rsft.data.datasets.formats.srsdd_files import SRSDDShip, SRSDDShips
from rsft.data.datasets.gaofen_chips import (
    crop_srsdd_ship,
    fusar_columns,
    read_gray_chip,
    srsdd_columns,
)
from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE, SRSDD_ARCHIVE
from rsft.data.datasets.same_content import group_by_content, read_contents
from rsft.data.datasets.source_errors import (
    explain_wrong_source,
    translate_dataset_errors,
)
from rsft.data.imagery.reader import read_image_header
from rsft.errors import DataError, RequestError
from rsft.types import Names, Progress, Rejection
from rsft.utils.source_tree import open_source_tree

FUSAR_NAME = FUSAR_SHIP_ARCHIVE.name
SRSDD_NAME = SRSDD_ARCHIVE.name
"""Names of the archives in the manifest and in messages."""

ALLOW_PARTIAL_HINT = "add --allow-partial to build from the other archive alone"

CONTRADICTION_FLAG = "label-contradicts-annotation"
"""Flag of a chip whose label in the list differs from its category in the archive."""
ALPHA_FLAG = "alpha-dropped"
"""Flag of a chip without the constant band of opacity of its file."""
AMBIGUOUS_NAME_FLAG = "ambiguous-name"
"""Flag of a chip whose name several files of the archives share."""

_SENSOR = "Gaofen-3"


@dataclass
class FUSRSSources:
    """The chips of FUSAR-Ship, and the ships and images of SRSDD.

    An archive that is left out has nothing.
    """

    chips: Sequence[FUSARChip] = ()
    ships: Sequence[SRSDDShip] = ()
    images: Sequence[Path] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


@contextmanager
def open_fusrs_sources(
    root: Path,
    archives: Sources,
    allow_partial: bool,
    progress: Progress | None,
) -> Iterator[FUSRSSources]:
    """Read the archives; compressed ones are extracted until the end of the block.

    Args:
        root: folder of the chip store; the extracted files lie beside it.
        archives: folder or archive of FUSAR-Ship and of SRSDD; None to leave it out.
        allow_partial: accept FUSAR-Ship if most file names of a category contradict
            their folders, so that the folders do not seem to be the categories, and
            SRSDD if its boxes are not where the images are bright.
        progress: called while archives are extracted.

    Raises:
        RequestError: a folder does not contain its archive.
        DataError: an archive cannot be used.
    """
    sources = FUSRSSources()
    with ExitStack() as stack:
        for name, (archive, path) in zip(
            source_names(root), archives.items(), strict=True
        ):
            if path is None:
                continue
            tree = open_source_tree(path, root.with_name(name), progress)
            folder = stack.enter_context(tree)
            with explain_wrong_source(archive, folder):
                _read_archive(sources, archive, folder, path)
            if not allow_partial:
                _check_archive(sources, archive, folder, path)
        yield sources


def _read_archive(
    sources: FUSRSSources, archive: PublishedArchive, folder: Path, path: Path
) -> None:
    """Add the files of an archive to the sources.

    Messages name its `path`, and not the `folder` of its files.
    """
    files: FUSARChips | SRSDDShips
    hint = f"give the folder that contains {archive.content}, or the archive of it"
    with translate_dataset_errors(archive.name, path, hint):
        if archive is FUSAR_SHIP_ARCHIVE:
            files = FUSARChips(folder)
            sources.chips = files.chips
        else:
            files = SRSDDShips(folder)
            sources.ships = files.ships
            sources.images = files.images
    if not (sources.chips if archive is FUSAR_SHIP_ARCHIVE else sources.images):
        raise RequestError(
            f"the folder does not contain {archive.name}",
            path,
            describe_rejections(files.rejected, files.skipped, hint),
        )
    for reason, count in files.skipped.items():
        sources.skipped[f"{archive.name}: {reason}"] = count
    sources.rejected += files.rejected


def _check_archive(
    sources: FUSRSSources, archive: PublishedArchive, folder: Path, path: Path
) -> None:
    """Raise DataError if labels contradict file names or images."""
    if archive is FUSAR_SHIP_ARCHIVE:
        _check_categories(sources.chips, path)
        return
    try:
        check_contrast(sources.ships, folder)
    except ValueError as error:
        raise DataError(
            str(error),
            path,
            "give the labels of these images. Add --allow-partial if the boxes are"
            " right and the ships are dark",
        ) from error


def _check_categories(chips: Sequence[FUSARChip], path: Path) -> None:
    """Raise DataError if most file names of a category are in folders of others.

    Only categories with another class count.
    """
    totals = Counter(chip.named_category for chip in chips)
    contradicting = defaultdict(list)
    for chip in chips:
        named_class = FUSAR_TO_FUSRS.get(chip.named_category or "")
        has_other_class = FUSAR_TO_FUSRS.get(chip.category) != named_class
        if has_other_class and CONTRADICTION in chip.flags:
            contradicting[chip.named_category].append(chip)
    for name, wrong in contradicting.items():
        if 2 * len(wrong) > totals[name]:
            raise DataError(
                f"{len(wrong):,} of {totals[name]:,} file names of {name} contradict"
                " their folder",
                path,
                f"sort the files as published; {wrong[0].path.name} is in the folder of"
                f" {wrong[0].category}. Add --allow-partial to take the categories of"
                " the folders",
            )


@dataclass(frozen=True)
class _ArchiveChip:
    """A chip of either archive, in the terms that the protocols share.

    Attributes:
        fusrs_class: the class in FUSRS v2 with five classes; None if the category does
            not determine it.
        group: the scene or vessel, which two splits must not share.
        name: the name in the authors' lists.
        full_name: the name to use where `name` is not unique.
        record: the record of the chip; `finish` sets its name, split, class, group and
            flags.
    """

    archive: str
    category: str
    fusrs_class: str | None
    group: str
    name: str
    full_name: str
    record: ChipRecord
    flags: Names = ()

    def finish(
        self, name: str, split: str, label: str, flags: Sequence[str] = ()
    ) -> ChipRecord:
        """Return the record with its name, split and class."""
        columns = {
            **self.record.extra_columns,
            "group_key": self.group,
            "flags": ",".join([*self.flags, *flags]),
        }
        return replace(
            self.record, name=name, split=split, label=label, extra_columns=columns
        )


def _wrap_fusar_chip(chip: FUSARChip, root: Path) -> _ArchiveChip:
    read_pixels = None
    flags = chip.flags
    # the published TIFF files have one band
    if chip.path.suffix.lower() == ".png":
        with suppress(DataError):  # the build reports it
            image = read_image_header(chip.path)
            if image.bands > 1:
                read_pixels = partial(read_gray_chip, chip.path)
            if image.mode in ("LA", "RGBA"):
                flags += (ALPHA_FLAG,)
    if (chip.mmsi or "").strip("0"):
        group = f"MMSI {chip.mmsi}"
    else:
        group = f"FUSAR-Ship {chip.category}/{chip.subcategory}/{chip.name}"
    columns = fusar_columns(chip, FUSAR_NAME, _SENSOR)
    return _ArchiveChip(
        archive=FUSAR_NAME,
        category=chip.category,
        fusrs_class=FUSAR_TO_FUSRS.get(chip.category),
        group=group,
        name=chip.name,
        full_name=full_chip_name(chip.path, root),
        record=ChipRecord("", "", "", chip.path, read_pixels, extra_columns=columns),
        flags=flags,
    )


def _wrap_srsdd_ship(ship: SRSDDShip, root: Path) -> _ArchiveChip:
    record = ChipRecord(
        "",
        "",
        "",
        ship.label_file,
        partial(crop_srsdd_ship, ship),
        ship.line,
        extra_columns=srsdd_columns(ship, SRSDD_NAME, _SENSOR),
        image_paths=(ship.image,),
    )
    return _ArchiveChip(
        archive=SRSDD_NAME,
        category=ship.category,
        fusrs_class=SRSDD_TO_FUSRS.get(ship.category),
        group=f"SRSDD {ship.image.stem}",
        name=ship.name,
        full_name=f"{full_chip_name(ship.image, root)}_{ship.number}",
        record=record,
    )


def _wrap_chips(
    chips: Sequence[FUSARChip | SRSDDShip], sources: FUSRSSources
) -> list[_ArchiveChip]:
    fusar_root = _common_folder([chip.path for chip in sources.chips])
    srsdd_root = _common_folder(sources.images)
    wrapped = []
    for chip in chips:
        if isinstance(chip, FUSARChip):
            wrapped.append(_wrap_fusar_chip(chip, fusar_root))
        else:
            wrapped.append(_wrap_srsdd_ship(chip, srsdd_root))
    return wrapped


def _common_folder(images: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in images] or [Path()]))


def list_records(
    sources: FUSRSSources, lists: Path, classes: Sequence[str], val: float, seed: int
) -> list[ChipRecord]:
    """Make one record per row of the authors' lists, as `FUSRS` reads them.

    The authors kept their chips in one folder, so a name stands for one file. Where
    several files of FUSAR-Ship have the name, the first by path is taken among those
    whose folder agrees with the category in the name, otherwise among all. Repeated
    rows of a name in a split are called name__2, name__3 and so on.

    Args:
        sources: the archives, to which the protocol adds rejected rows, whose name is
            in neither archive, and skipped chips, which no list names.
        lists: folder of the lists.
        classes: class names in the order of the labels.
        val: share of the training rows for validation, in whole groups.
        seed: seed of the validation split.

    Returns:
        The records, sorted by source file, so that each image is decoded once.

    Raises:
        DataError: a list cannot be used, or a listed name stands for different ships.
    """
    from rsft.data.datasets.fusrs import FUSRS

    rows = []
    rejected = []
    hint = "copy or download the lists again"
    with translate_dataset_errors("the list", lists, hint):
        for split in FUSRS.splits:
            dataset = FUSRS(
                lists,
                split,
                len(classes),
                fusar_chips=sources.chips,
                srsdd_ships=sources.ships,
            )
            rows += dataset.rows
            rejected += dataset.rejected
    chips_by_name = dataset.chips
    names = list(dict.fromkeys(row.name for row in rows))
    for name in names:
        _check_copies(chips_by_name[name])
    first_chips = _wrap_chips([chips_by_name[name][0] for name in names], sources)
    chosen = dict(zip(names, first_chips, strict=True))
    train = [row for row in rows if row.split == "train"]
    split_of = split_groups(
        [classes[row.label] for row in train],
        [chosen[row.name].group for row in train],
        {"train": 1 - val, "val": val},
        seed,
    )
    records = []
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.split, row.name] += 1
        count = counts[row.split, row.name]
        chip = chosen[row.name]
        label = classes[row.label]
        flags = {
            REPEATED_ROW_FLAG: count > 1,
            CONTRADICTION_FLAG: label != chip.fusrs_class,
            AMBIGUOUS_NAME_FLAG: len(chips_by_name[row.name]) > 1,
        }
        name = row.name if count == 1 else f"{row.name}__{count}"
        split = split_of[chip.group] if row.split == "train" else row.split
        set_flags = [flag for flag, is_set in flags.items() if is_set]
        records.append(chip.finish(name, split, label, set_flags))
    skipped = _count_unlisted(chips_by_name, chosen)
    return _finish_protocol(sources, records, skipped, rejected)


def _check_copies(chips: Sequence[FUSARChip | SRSDDShip]) -> None:
    """Raise DataError if ships of SRSDD with one name are in different images."""
    images = [chip.image for chip in chips if isinstance(chip, SRSDDShip)]
    for first, other in pairwise(images):
        if not have_same_pixels(first, other):
            raise DataError(
                f"the lists name the ship {chips[-1].name}, but two images have this"
                " number",
                f"{first}, {other}",
                "give the images with their published numbers",
            )


def _count_unlisted(
    chips_by_name: Mapping[str, Sequence[FUSARChip | SRSDDShip]],
    chosen: Mapping[str, _ArchiveChip],
) -> Counter[str]:
    """Count the chips that no list names, and further files of a listed name."""
    skipped = Counter[str]()
    for name, chips in chips_by_name.items():
        archive = FUSAR_NAME if isinstance(chips[0], FUSARChip) else SRSDD_NAME
        if name in chosen:
            skipped[f"{archive}: another file of a listed name"] += len(chips) - 1
        else:
            skipped[f"{archive}: in no list"] += len(chips)
    return skipped


def clean_records(
    sources: FUSRSSources,
    classes: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    jobs: int,
) -> list[ChipRecord]:
    """Make one record per distinct chip content, with the class from the archive.

    No group is in two splits. A group is an SRSDD image or a FUSAR-Ship vessel, with
    its copies; a chip without an MMSI is a group by itself. A turned or mirrored chip
    has the same content. A content that occurs in several categories is rejected,
    because the archive does not show which one is right.

    Args:
        sources: the archives, to which the protocol adds skipped duplicates and
            rejected contradictions.
        classes: class names; chips of other classes are skipped.
        shares: share of each split; each class comes near it within each archive.
        seed: seed of the splits.
        jobs: number of threads that read the files.

    Returns:
        The records, sorted by source file.
    """
    skipped = Counter[str]()
    rejected = []
    contents, keys = read_contents(sources.chips, sources.ships, jobs)
    chips = _wrap_chips([*sources.chips, *sources.ships], sources)
    groups = group_by_content([chip.group for chip in chips], keys)
    chips_by_content = defaultdict(list)
    for content, chip, group in zip(contents, chips, groups, strict=True):
        chips_by_content[content].append(replace(chip, group=group))
    selected = []
    for copies in chips_by_content.values():
        first = copies[0]
        categories = sorted({chip.category for chip in copies})
        if len(categories) > 1:
            reason = f"the same content has the categories {', '.join(categories)}"
            for chip in copies:
                path = str(chip.record.source_path)
                rejected.append((path, chip.record.line, reason))
            continue
        skipped[f"{first.archive}: repeated content"] += len(copies) - 1
        if first.fusrs_class in classes:
            selected.append((first, str(first.fusrs_class)))
        else:
            skipped[f"{first.archive} {first.category}: not among the classes"] += 1
    strata = [f"{chip.archive} {label}" for chip, label in selected]
    groups = [chip.group for chip, _ in selected]
    split_of = split_groups(strata, groups, shares, seed)
    counts = Counter(_name_space(chip, label) for chip, label in selected)
    records = []
    for chip, label in selected:
        name = chip.name if (counts[_name_space(chip, label)] == 1) else chip.full_name
        records.append(chip.finish(name, split_of[chip.group], label))
    return _finish_protocol(sources, records, skipped, rejected)


def _name_space(chip: _ArchiveChip, label: str) -> tuple[str, str]:
    """Return what two chips must not share, so that they can have their names."""
    return (label if chip.archive == FUSAR_NAME else "", chip.name)


def _finish_protocol(
    sources: FUSRSSources,
    records: list[ChipRecord],
    skipped: Counter[str],
    rejected: list[Rejection],
) -> list[ChipRecord]:
    """Add what the protocol leaves out to the sources, and sort the records.

    Each image is decoded once, because the order is that of the source files.
    """
    sources.skipped = skipped + sources.skipped
    sources.rejected = [*rejected, *sources.rejected]
    return sorted(
        records, key=lambda record: (record.source_path, record.line, record.name)
    )
