"""Add the labels of a corrected table to a chip store.

The pixels of the chips come from their files, or are cut from the scene again, if they
fit the store.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from rsft.corrections.corrected_table import (
    CorrectedRow,
    CorrectedTable,
    read_corrected_table,
)
from rsft.corrections.cutter import (
    ChipCutter,
    CorrectedChip,
    StoreFit,
)
from rsft.corrections.sources import Sources
from rsft.data.chips.additions import (
    AdditionResult,
    add_chips,
    scene_key,
)
from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import ChipRecord, resolve_label
from rsft.data.chips.store import REJECTED, ChipStore
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.imagery.products.product import Product
from rsft.errors import DataError, RequestError
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.raster import gdal_environment
from rsft.types import JsonObject, Names, Progress, Rejection
from rsft.utils.atomic_files import sha256
from rsft.utils.progress import track


@dataclass(frozen=True)
class AdditionOptions:
    """The options of `rsft data add`.

    Attributes:
        label_field: field of the labels in a table of predictions; None takes
            "corrected".
        not_a_target: class of chips that are not a target; None leaves them out.
        new_classes: names of classes that the store may get.
        mixed_noise: accept scenes with and without their thermal noise in one store.
        sources: files, folders and addresses whose chips and scenes may be read,
            besides the store and the folder of the table; None allows every one. A
            scene on this machine is allowed if the table has its fingerprint.
    """

    label_field: str | None = None
    not_a_target: str | None = None
    new_classes: Names = ()
    declaration: Declaration = UNDECLARED
    mixed_noise: bool = False
    sources: Names | None = None


DEFAULT_ADDITION = AdditionOptions()
"""The options of an addition without any option."""


@dataclass(frozen=True)
class CorrectionSummary:
    """What became of the rows of a corrected table.

    Attributes:
        verdicts: number of rows by verdict; "" if nobody looked at the row.
        not_a_target: class of the rows that are not a target; None if they were left
            out.
        result: what became of the labeled rows.
    """

    table: Path
    root: Path
    verdicts: Counter[str]
    not_a_target: str | None
    result: AdditionResult


def add_corrections(
    root: Path,
    table: Path,
    options: AdditionOptions = DEFAULT_ADDITION,
    progress: Progress | None = None,
) -> CorrectionSummary:
    """Join the labels of a corrected table to a chip store, all of them or none.

    Args:
        root: folder of the store.
        table: the CSV table of the review page, or a table of predictions with a field
            of labels.
        options: the user's options.
        progress: called after each chip.

    Raises:
        RequestError: the table or the store cannot be read, no row has a label, a class
            is unknown, the thermal noise was removed from some of the scenes only, or
            another process changes the store.
        DataError: all rows with a label were rejected; rejected.csv of the store lists
            them.

    Example:
        >>> summary = add_corrections(Path("data/ships"), Path("corrected.csv"))
        >>> summary.result.unchanged  # chips that the store has with the same label
        2
    """
    store = ChipStore.open(root)
    sources = Sources(store.root, table, options.sources)
    corrected = read_corrected_table(table, options.label_field, sources)
    labeled = []
    for row in corrected.rows:
        label, _ = resolve_label(row.verdict, options.not_a_target)
        if label:
            labeled.append((row, label))
    _check_classes(store, table, Counter(label for _, label in labeled), options)
    verdicts = Counter(row.verdict for row in corrected.rows)
    if not labeled:
        raise _no_label_error(table, verdicts)
    noise = _read_noise(corrected, {scene_key(row.scene) for row, _ in labeled})
    _check_noise(store, table, noise, options)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    records, rejected = _read_chips(corrected, labeled, store, options, date, progress)
    details: JsonObject = {
        "date": date,
        "table": table.name,
        "table_sha256": sha256(table),
        "bundle_sha256": corrected.bundle_sha256 or None,
        "not_a_target": options.not_a_target,
        "noise": sorted(noise),
    }
    result = add_chips(
        root, records, table, details, options.new_classes, rejected, progress
    )
    if len(result.rejected) == len(labeled):
        _, line, reason = result.rejected[0]
        raise DataError(
            f"none of the {len(labeled):,} labels can be used; line {line}: {reason}",
            root / REJECTED,
            "the file lists the reason for each row",
        )
    return CorrectionSummary(table, root, verdicts, options.not_a_target, result)


def _no_label_error(table: Path, verdicts: Counter[str]) -> RequestError:
    counts = [
        f"{count:,} {verdict or 'not looked at'}" for verdict, count in verdicts.items()
    ]
    return RequestError(
        f"no row has a label ({', '.join(counts) or 'the table is empty'})",
        table,
        "give each chip that you looked at a class; --not-a-target clutter names that"
        " of chips that are not a target",
    )


def _read_noise(table: CorrectedTable, scenes: set[str]) -> dict[str, list[str]]:
    """Return the scenes by what the predictions say of their thermal noise.

    Args:
        table: the table.
        scenes: keys of the scenes that count.
    """
    noise = defaultdict(list)
    for product in table.metadata.get("products") or ():
        name = str(product.get("scene") or "")
        note = str(product.get("noise") or "")
        if note and scene_key(name) in scenes:
            noise[note].append(name)
    return noise


def _check_noise(
    store: ChipStore,
    table: Path,
    noise: dict[str, list[str]],
    options: AdditionOptions,
) -> None:
    """Raise an error if the thermal noise was removed from some of the scenes only."""
    earlier = set[str]().union(*(addition.noise for addition in store.additions))
    scenes = noise | {
        note: [*noise.get(note, ()), "earlier additions"] for note in earlier
    }
    kinds = {note == Product.NOISE_REMOVED for note in scenes}
    if options.mixed_noise or len(kinds) < 2:
        return
    texts = [f"{note}: {', '.join(names)}" for note, names in sorted(scenes.items())]
    raise RequestError(
        f"the thermal noise was removed from some of the scenes only"
        f" ({'; '.join(texts)})",
        table,
        "predict all scenes again with --read keep-noise, or add --mixed-noise",
    )


def _check_classes(
    store: ChipStore, table: Path, counts: Counter[str], options: AdditionOptions
) -> None:
    """Raise an error if the store does not have a class.

    It names the classes that have a similar name.
    """
    for name in options.new_classes:
        if describe_row_fault("chip", name) or not name.strip():
            raise RequestError(
                f"{name!r} cannot name a class", "--new-class", "choose another name"
            )
    folded = {name.casefold(): name for name in store.classes}
    hints = []
    texts = []
    flags = ""
    for name, count in counts.items():
        if name in store.classes or name in options.new_classes:
            continue
        matches = get_close_matches(name.casefold(), folded, n=2, cutoff=0.7)
        if matches:
            similar = " or ".join(folded[match] for match in matches)
            hints.append(f"{name} may be {similar}")
        texts.append(f"{name} (rows: {count:,})")
        flags += f" --new-class {shlex.quote(name)}"
    if texts:
        raise RequestError(
            f"the chip store has no class {', '.join(texts)}; it has"
            f" {', '.join(store.classes)}",
            table,
            "; ".join([*hints, f"correct the table, or add{flags}"]),
        )


def _read_chips(
    table: CorrectedTable,
    labeled: Sequence[tuple[CorrectedRow, str]],
    store: ChipStore,
    options: AdditionOptions,
    date: str,
    progress: Progress | None,
) -> tuple[list[ChipRecord], list[Rejection]]:
    """Return the chips of all rows with a label, and the rows without a usable chip."""
    records = []
    rejected = []
    sources = Sources(store.root, table.path, options.sources)
    cutter = ChipCutter(table, StoreFit(store), options.declaration, sources)
    with closing(cutter), gdal_environment():
        task = "reading corrected chips"
        for row, label in track(labeled, len(labeled), progress, task):
            try:
                if row.fault:
                    raise DataError(row.fault)
                chip = cutter.read(row)
            except DataError as error:
                rejected.append((str(table.path.resolve()), row.line, error.message))
            else:
                records.append(_make_record(row, label, chip, table, store, date))
    return records, rejected


def _make_record(
    row: CorrectedRow,
    label: str,
    chip: CorrectedChip,
    table: CorrectedTable,
    store: ChipStore,
    date: str,
) -> ChipRecord:
    """Return the record of a chip with a label.

    Args:
        row: the row of the table.
        label: its class.
        chip: its pixels.
        table: the table.
        store: the store, whose bands the chip has.
        date: date of the addition.
    """
    columns = {
        "source": table.path.name,
        "unit": chip.unit,
        "spacing_m": chip.spacing_m,
        "incidence_deg": row.incidence_deg,
        "group_key": chip.scene or None,
        "added_from": table.path.name,
        "added_on": date,
        "added_bundle": row.bundle or table.bundle_sha256 or None,
        "added_predicted": row.predicted or None,
    }
    return ChipRecord(
        name=row.chip or Path(row.path).stem or f"row_{row.line}",
        split=row.split if row.split in SPLITS else "train",
        label=label,
        source_path=table.path.resolve(),
        read_pixels=lambda: chip.pixels,
        line=row.line,
        bands=store.bands,
        extra_columns={
            name: value for name, value in columns.items() if pd.notna(value)
        },
    )
