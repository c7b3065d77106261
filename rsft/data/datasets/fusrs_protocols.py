"""Split and class of each FUSAR-Ship and SRSDD chip in FUSRS v2, by either protocol.

Archives that would give a wrong chip store are refused.
"""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from rsft.data.chips.builder import source_names
from rsft.data.chips.record import ChipRecord, describe_rejections
from rsft.data.datasets.archive_search import PublishedArchive
from rsft.data.datasets.box_contrast import check_contrast
from rsft.data.datasets.chip_names import full_chip_name
from rsft.data.datasets.formats.fusar_files import CONTRADICTION, FUSARChip, FUSARChips
from rsft.data.datasets.formats.fusrs_classes import (
    FUSAR_TO_FUSRS,
    REPEATED_ROW_FLAG,
    SRSDD_TO_FUSRS,
)
from rsft.data.datasets.formats.gray_images import have_same_pixels
from rsft.data.datasets.formats.srsdd_files import (
    SRSDD_SPACING_M,
    SRSDDShip,
    SRSDDShips,
)
from rsft.data.datasets.gaofen_chips import (
    crop_srsdd_ship,
    fusar_columns,
    read_gray_chip,
)
from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE, SRSDD_ARCHIVE
from rsft.data.datasets.source_errors import (
    explain_wrong_source,
    translate_dataset_errors,
)
from rsft.data.datasets.splits import split_groups
from rsft.data.imagery.reader import open_image
from rsft.data.similarity import (
    find_similar,
    hash_similarity,
    make_thumbnail,
    symmetric_digest,
)
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.source_tree import open_source_tree

FUSAR_NAME = FUSAR_SHIP_ARCHIVE.name
SRSDD_NAME = SRSDD_ARCHIVE.name
"""Names of the archives in the manifest and in messages."""

ALLOW_PARTIAL_HINT = "add --allow-partial to build from the other archive alone"

_READERS = {FUSAR_SHIP_ARCHIVE: FUSARChips, SRSDD_ARCHIVE: SRSDDShips}


@dataclass
class FUSRSSources:
    """The chips of FUSAR-Ship, and the ships and images of SRSDD; an archive that is left out has nothing."""

    chips: Sequence[FUSARChip] = ()
    ships: Sequence[SRSDDShip] = ()
    images: Sequence[Path] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


@contextmanager
def open_fusrs_sources(
    root: Path,
    fusar: Path | None,
    srsdd: Path | None,
    allow_partial: bool,
    progress: Progress | None,
) -> Iterator[FUSRSSources]:
    """Read the archives; compressed ones are extracted beside `root` until the end of the block.

    Args:
        root: folder of the chip store.
        fusar: folder or archive of FUSAR-Ship; None to leave it out.
        srsdd: folder or archive of SRSDD; None to leave it out.
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
        for archive, path, work_name in zip(
            _READERS, (fusar, srsdd), source_names(root), strict=True
        ):
            if path is None:
                continue
            folder = stack.enter_context(
                open_source_tree(path, root.with_name(work_name), progress)
            )
            with explain_wrong_source(archive, folder):
                _read_source(sources, archive, folder, path)
            if not allow_partial and archive is SRSDD_ARCHIVE:
                _check_contrast(sources.ships, folder, path)
        if not allow_partial and fusar is not None:
            _check_categories(sources.chips, fusar)
        yield sources


def _read_source(
    sources: FUSRSSources, archive: PublishedArchive, folder: Path, path: Path
) -> None:
    """Add the files of an archive to the sources; messages name its `path`, and not the `folder` of its files."""
    hint = f"give the folder that contains {archive.content}, or the archive of it"
    with translate_dataset_errors(archive.name, path, hint):
        files = _READERS[archive](folder)
    if isinstance(files, FUSARChips):
        sources.chips = files.chips
    else:
        sources.ships = files.ships
        sources.images = files.images
    if not (files.chips if isinstance(files, FUSARChips) else files.images):
        reasons = [
            f"{count:,} {reason}" for reason, count in files.skipped.most_common(3)
        ]
        hint = "; ".join(
            filter(None, [hint, *reasons, describe_rejections(files.rejected)])
        )
        raise RequestError(f"the folder does not contain {archive.name}", path, hint)
    sources.skipped.update(
        {f"{archive.name}: {reason}": count for reason, count in files.skipped.items()}
    )
    sources.rejected += files.rejected


def _check_categories(chips: Sequence[FUSARChip], path: Path) -> None:
    """Raise DataError if most file names of a category are in folders of categories with another class."""
    contradicting = [
        chip
        for chip in chips
        if CONTRADICTION in chip.flags
        and FUSAR_TO_FUSRS.get(chip.category)
        != FUSAR_TO_FUSRS.get(chip.named_category or "")
    ]
    totals = Counter(chip.named_category for chip in chips)
    counts = Counter(chip.named_category for chip in contradicting)
    wrong = [
        f"{count:,} of {totals[name]:,} {name}"
        for name, count in counts.items()
        if 2 * count > totals[name]
    ]
    if wrong:
        message = (
            f"{len(contradicting):,} of {len(chips):,} file names contradict their"
            f" folder ({', '.join(wrong)})"
        )
        example = (
            f"{contradicting[0].path.name} is in the folder of"
            f" {contradicting[0].category}"
        )
        option = "Add --allow-partial to take the categories of the folders"
        raise DataError(
            message, path, f"sort the files as published; {example}. {option}"
        )


def _check_contrast(ships: Sequence[SRSDDShip], folder: Path, path: Path) -> None:
    """Raise DataError if the boxes of SRSDD in `folder` are not where its images are bright; `path` is named."""
    try:
        check_contrast(ships, folder)
    except ValueError as error:
        raise DataError(
            str(error),
            path,
            (
                "give the labels of these images. Add --allow-partial if the boxes are"
                " right and the ships are dark"
            ),
        ) from error


CONTRADICTION_FLAG = "label-contradicts-annotation"
"""Flag of a chip whose label in the list differs from its category in the archive."""
ALPHA_FLAG = "alpha-dropped"
"""Flag of a chip without the constant band of opacity of its file."""
AMBIGUOUS_NAME_FLAG = "ambiguous-name"
"""Flag of a chip whose name several files of the archives share."""

_SENSOR = "Gaofen-3"


@dataclass(frozen=True)
class _ArchiveChip:
    """A chip of either archive, in the terms that the protocols share.

    Attributes:
        fusrs_class: the class in FUSRS v2 with five classes; None if the category does
            not determine it.
        group: the scene or vessel, which two splits must not share.
        name: the name in the authors' lists.
        full_name: the name to use where `name` is not unique.
        record: the record of the chip; `_finish_record` sets its name, split, class,
            group and flags.
    """

    archive: str
    category: str
    fusrs_class: str | None
    group: str
    name: str
    full_name: str
    record: ChipRecord
    flags: tuple[str, ...] = ()


def _fusar_chip(chip: FUSARChip, root: Path) -> _ArchiveChip:
    has_mmsi = chip.mmsi is not None and chip.mmsi.strip("0") != ""
    columns = fusar_columns(chip, FUSAR_NAME, _SENSOR)
    read_pixels = None
    flags = chip.flags
    with suppress(DataError):  # the build reports the fault
        if chip.path.suffix.lower() == ".png":  # the published TIFF files have one band
            with open_image(chip.path) as image:
                if len(image.getbands()) > 1:
                    read_pixels = partial(read_gray_chip, chip.path)
                else:
                    read_pixels = None
                flags += (ALPHA_FLAG,) if image.mode in ("LA", "RGBA") else ()
    return _ArchiveChip(
        archive=FUSAR_NAME,
        category=chip.category,
        fusrs_class=FUSAR_TO_FUSRS.get(chip.category),
        group=(
            f"MMSI {chip.mmsi}"
            if has_mmsi
            else f"FUSAR-Ship {chip.category}/{chip.subcategory}/{chip.name}"
        ),
        name=chip.name,
        full_name=full_chip_name(chip.path, root),
        record=ChipRecord("", "", "", chip.path, read_pixels, extra_columns=columns),
        flags=flags,
    )


def _srsdd_chip(ship: SRSDDShip, root: Path) -> _ArchiveChip:
    columns = {
        "source": SRSDD_NAME,
        "sensor": _SENSOR,
        "spacing_m": SRSDD_SPACING_M,
    }
    columns |= {"box": ship.box_in_chip}
    crop = partial(crop_srsdd_ship, ship)
    record = ChipRecord(
        "",
        "",
        "",
        ship.label_file,
        crop,
        ship.line,
        extra_columns=columns,
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

    with translate_dataset_errors(
        "the list", lists, "copy or download the lists again"
    ):
        datasets = [
            FUSRS(
                lists,
                split,
                len(classes),
                fusar_chips=sources.chips,
                srsdd_ships=sources.ships,
            )
            for split in FUSRS.splits
        ]
    records = list[ChipRecord]()
    skipped = Counter[str]()
    rows = [row for dataset in datasets for row in dataset.rows]
    chips_by_name = datasets[0].chips
    names = list(dict.fromkeys(row.name for row in rows))
    for first, other in pairwise(
        ship
        for name in names
        for ship in chips_by_name[name]
        if isinstance(ship, SRSDDShip)
    ):
        if first.name == other.name and not have_same_pixels(first.image, other.image):
            raise DataError(
                f"the lists name the ship {first.name}, but two images have this number",
                f"{first.image}, {other.image}",
                "give the images with their published numbers",
            )
    chosen = dict(
        zip(
            names,
            _wrap_chips([chips_by_name[name][0] for name in names], sources),
            strict=True,
        )
    )
    train = [row for row in rows if row.split == "train"]
    labels = [classes[row.label] for row in train]
    groups = [chosen[row.name].group for row in train]
    split_of = split_groups(labels, groups, {"train": 1 - val, "val": val}, seed)
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        chip = chosen[row.name]
        label = classes[row.label]
        counts[row.split, row.name] += 1
        count = counts[row.split, row.name]
        flags = {
            REPEATED_ROW_FLAG: count > 1,
            CONTRADICTION_FLAG: label != chip.fusrs_class,
        }
        flags[AMBIGUOUS_NAME_FLAG] = len(chips_by_name[row.name]) > 1
        name = row.name if count == 1 else f"{row.name}__{count}"
        if row.split == "train":
            split = split_of[chip.group]
        else:
            split = row.split
        records.append(
            _finish_record(
                chip, name, split, label, [flag for flag in flags if flags[flag]]
            )
        )
    for name, chips in chips_by_name.items():
        if name in chosen:
            reason = "another file of a listed name"
        else:
            reason = "in no list"
        if isinstance(chips[0], FUSARChip):
            archive = FUSAR_NAME
        else:
            archive = SRSDD_NAME
        skipped[f"{archive}: {reason}"] += len(chips) - (name in chosen)
    rejected = [rejection for dataset in datasets for rejection in dataset.rejected]
    return _finish_protocol(sources, records, skipped, rejected)


def clean_records(
    sources: FUSRSSources,
    classes: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    jobs: int,
) -> list[ChipRecord]:
    """Make one record per distinct chip content, with the class from the archive and no group in two splits.

    A group is an SRSDD image or a FUSAR-Ship vessel, with its copies; a chip without an
    MMSI is a group by itself. A turned or mirrored chip has the same content. A content
    that occurs in several categories is rejected, because the archive does not show
    which one is right.

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
    rejected = list[Rejection]()
    contents, keys = _read_contents(sources, jobs)
    chips = _wrap_chips([*sources.chips, *sources.ships], sources)
    files = [
        *(chip.path for chip in sources.chips),
        *(ship.image for ship in sources.ships),
    ]
    groups = _join_groups(chips, files, keys)
    chips_by_content = defaultdict[str, list[_ArchiveChip]](list)
    for content, chip, group in zip(contents, chips, groups, strict=True):
        chips_by_content[content].append(replace(chip, group=group))
    selected: list[tuple[_ArchiveChip, str]] = []
    for first, *others in chips_by_content.values():
        if any(other.category != first.category for other in others):
            categories = ", ".join(sorted({chip.category for chip in (first, *others)}))
            reason = f"the same content has the categories {categories}"
            copies = [chip.record for chip in (first, *others)]
            rejected.extend(
                (str(record.source_path), record.line, reason) for record in copies
            )
            continue
        skipped[f"{first.archive}: repeated content"] += len(others)
        if first.fusrs_class in classes:
            selected.append((first, str(first.fusrs_class)))
        else:
            skipped[f"{first.archive} {first.category}: not among the classes"] += 1
    strata = [f"{chip.archive} {label}" for chip, label in selected]
    split_of = split_groups(strata, [chip.group for chip, _ in selected], shares, seed)
    spaces = [
        (label if chip.archive == FUSAR_NAME else "", chip.name)
        for chip, label in selected
    ]  # as in the store
    counts = Counter(spaces)
    records = [
        _finish_record(
            chip,
            chip.name if counts[space] == 1 else chip.full_name,
            split_of[chip.group],
            label,
        )
        for (chip, label), space in zip(selected, spaces, strict=True)
    ]
    return _finish_protocol(sources, records, skipped, rejected)


def _wrap_chips(
    chips: Iterable[FUSARChip | SRSDDShip], sources: FUSRSSources
) -> list[_ArchiveChip]:
    paths = ([chip.path for chip in sources.chips], sources.images)
    roots = [
        Path(os.path.commonpath([path.parent for path in images] or [Path()]))
        for images in paths
    ]
    return [
        (
            _fusar_chip(chip, roots[0])
            if isinstance(chip, FUSARChip)
            else _srsdd_chip(chip, roots[1])
        )
        for chip in chips
    ]


def _finish_record(
    chip: _ArchiveChip, name: str, split: str, label: str, flags: Sequence[str] = ()
) -> ChipRecord:
    columns = {
        **chip.record.extra_columns,
        "group_key": chip.group,
        "flags": ",".join([*chip.flags, *flags]),
    }
    return replace(
        chip.record, name=name, split=split, label=label, extra_columns=columns
    )


def _finish_protocol(
    sources: FUSRSSources,
    records: list[ChipRecord],
    skipped: Counter[str],
    rejected: list[Rejection],
) -> list[ChipRecord]:
    """Add what the protocol leaves out to the sources; sort the records, so that each image is decoded once."""
    sources.skipped = skipped + sources.skipped
    sources.rejected = [*rejected, *sources.rejected]
    return sorted(
        records, key=lambda record: (record.source_path, record.line, record.name)
    )


_COPY_NAME = re.compile(
    r"_(png|jpe?g|tiff?|bmp)\.rf\.\w+$|[_-](aug|rot|flip|mirror|[hv]flip)\w*$",
    re.IGNORECASE,
)
"""End of the name of an augmented copy of an image, as Roboflow and others write it."""


def _read_contents(
    sources: FUSRSSources, jobs: int
) -> tuple[list[str], dict[Path, list[str]]]:
    """Hash the pixels of all chips.

    Returns:
        One hash per chip of FUSAR-Ship and per ship of SRSDD, or a name if the chip
        cannot be read, which the build reports; and the keys of each file. Files that
        share a key show one vessel or scene: they share the pixels of an image or chip,
        as copies and tiles do, or the name and all boxes, as filtered copies do, or
        they are near-duplicates, or one is an augmented copy of the other by its name.
    """
    ships_of = {
        image: list(ships)
        for image, ships in groupby(sources.ships, attrgetter("image"))
    }
    files = {chip.path: list[SRSDDShip]() for chip in sources.chips} | ships_of
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
        warnings.simplefilter(
            "ignore", NotGeoreferencedWarning
        )  # the filters that a thread sets are those of all
        results = dict(
            zip(files, pool.map(_hash_file, files, files.values()), strict=True)
        )
    contents = [results[chip.path][0][0] for chip in sources.chips]
    keys = dict[Path, list[str]]()
    for path, ships in files.items():
        digests, _ = results[path]
        contents += digests[1:]
        keys[path] = [*digests, str(path.with_name(_COPY_NAME.sub("", path.stem)))]
        if ships:
            keys[path].append(f"{path.stem} {[ship.box for ship in ships]}")
    similarities = {
        path: similarity
        for path, (_, similarity) in results.items()
        if similarity is not None
    }
    paths = list(similarities)
    pairs = find_similar(
        list(similarities.values()),
        range(len(paths)),
        lambda row: make_thumbnail(read_gray_chip(paths[row])),
    )
    for pair in pairs:
        for row in pair:
            keys[paths[row]].append(f"near-duplicates {pair}")
    return contents, keys


def _hash_file(path: Path, ships: Sequence[SRSDDShip]) -> tuple[list[str], int | None]:
    """Return the hashes of an image and of the chips of its ships, and the hash of its near-duplicates."""
    digests = [str(path), *(f"{ship.label_file}:{ship.line}" for ship in ships)]
    similarity = None
    with suppress(DataError):
        pixels = read_gray_chip(path)
        digests[0] = symmetric_digest(pixels)
        similarity = hash_similarity(pixels)
        for index, ship in enumerate(ships, 1):
            with suppress(ValueError):  # the ship is outside
                digests[index] = symmetric_digest(ship.crop(pixels))
    return digests, similarity


def _join_groups(
    chips: Sequence[_ArchiveChip],
    files: Sequence[Path],
    keys: Mapping[Path, Sequence[str]],
) -> list[str]:
    """Return the group of each chip; chips whose files share a key get the group of the first one.

    Args:
        chips: the chips.
        files: the image of each chip.
        keys: keys of each image, see `_read_contents`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_with: dict[str, int] = {}
    edges: list[tuple[int, int]] = []
    for index, (chip, file) in enumerate(zip(chips, files, strict=True)):
        for key in (f"group {chip.group}", *keys[file]):
            edges.append((index, first_with.setdefault(key, index)))
    graph = coo_array(
        (np.ones(len(edges)), np.transpose(edges)), shape=(len(chips), len(chips))
    )
    _, components = connected_components(graph, directed=False)
    first_of: dict[int, int] = {}
    return [
        chips[first_of.setdefault(component, index)].group
        for index, component in enumerate(components.tolist())
    ]
