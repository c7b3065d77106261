"""Add the labels of a corrected table to a chip store."""

import hashlib
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from rsft.data.chips.additions import AdditionResult, LabeledChip, add_chips, pixel_digest
from rsft.data.chips.record import NO_CLASS, NOT_A_TARGET, UNSURE, resolve_label
from rsft.data.chips.store import REJECTED, ChipStore
from rsft.data.datasets._label_files import describe_row_fault
from rsft.errors import DataError, RequestError
from rsft.inference.corrections.chip_cutter import ChipCutter, CorrectedChip, StoreFit
from rsft.inference.corrections.corrected_table import CorrectedRow, CorrectedTable, read_corrected_table
from rsft.inference.options import UNDECLARED, Declaration
from rsft.inference.scenes.raster import gdal_environment
from rsft.types import Progress, Rejection
from rsft.utils.atomic_files import sha256


@dataclass(frozen=True)
class AdditionOptions:
    """The options of `rsft data add`.

    Attributes:
        label_field: field of the labels in a table of predictions; None takes "corrected".
        not_a_target: class of chips that are not a target; None leaves them out.
        new_classes: names of classes that the store may get.
        declaration: unit and bands of the chip files.
    """

    label_field: str | None = None
    not_a_target: str | None = None
    new_classes: tuple[str, ...] = ()
    declaration: Declaration = UNDECLARED


@dataclass(frozen=True)
class CorrectionSummary:
    """What became of the rows of a corrected table.

    Attributes:
        table: the table.
        root: folder of the store.
        rows: number of rows.
        unlabeled: number of rows that nobody looked at.
        unsure: number of rows that are unsure, which are no labels.
        not_a_target: number of rows that are not a target.
        not_a_target_class: their class; None if they were left out.
        result: what became of the labeled rows.
    """

    table: Path
    root: Path
    rows: int
    unlabeled: int
    unsure: int
    not_a_target: int
    not_a_target_class: str | None
    result: AdditionResult

    @property
    def rejected_list(self) -> Path:
        """The list of rejected rows."""
        return self.root / REJECTED


def add_corrections(
    root: Path, table: Path, options: AdditionOptions | None = None, progress: Progress | None = None
) -> CorrectionSummary:
    """Join the labels of a corrected table to a chip store, all of them or none.

    Args:
        root: folder of the store.
        table: the CSV table of the review page, or a table of predictions with a field of labels.
        options: the user's options.
        progress: called after each chip.

    Returns:
        What became of every row.

    Raises:
        RequestError: the table or the store cannot be read, no row has a label, a class is unknown, or another process
            changes the store.
        DataError: all rows with a label were rejected; rejected.csv of the store lists them.

    Example:
        >>> summary = add_corrections(Path("data/ships"), Path("corrected.csv"))
        >>> summary.result.unchanged  # chips that the store has with the same label
        2
    """
    options = options or AdditionOptions()
    store, corrected = ChipStore.open(root), read_corrected_table(table, options.label_field)
    labels = [resolve_label(row.verdict, options.not_a_target) for row in corrected.rows]
    _check_classes(store, table, Counter(label for label, _ in labels if label), options)
    unlabeled = sum(reason == NO_CLASS for _, reason in labels)
    verdicts = Counter(row.verdict for row in corrected.rows)
    labeled = [(row, label) for row, (label, _) in zip(corrected.rows, labels, strict=True) if label]
    if not labeled:
        counts = {"not looked at": unlabeled, UNSURE: verdicts[UNSURE], NOT_A_TARGET: verdicts[NOT_A_TARGET]}
        listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "the table is empty"
        hint = "give each chip that you looked at a class"
        if verdicts[NOT_A_TARGET]:
            hint = "to learn from chips that are not a target, name their class: --not-a-target clutter"
        raise RequestError(f"no row has a label ({listed})", table, hint)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    chips, rejected = _read_chips(corrected, labeled, StoreFit(store), options.declaration, date, progress)
    record: dict[str, object] = {
        "date": date,
        "table": table.name,
        "table_sha256": sha256(table),
        "bundle_sha256": corrected.bundle_sha256 or None,
        "not_a_target": options.not_a_target,
    }
    new, source = options.new_classes, table.resolve()
    result = add_chips(root, chips, table=source, record=record, new_classes=new, rejected=rejected, progress=progress)
    if len(result.rejected) == len(labeled):
        _, line, reason = result.rejected[0]
        message = f"none of the {len(labeled):,} labels can be used; line {line}: {reason}"
        raise DataError(message, root / REJECTED, "the file lists the reason for each row")
    return CorrectionSummary(
        table=table,
        root=root,
        rows=len(corrected.rows),
        unlabeled=unlabeled,
        unsure=verdicts[UNSURE],
        not_a_target=verdicts[NOT_A_TARGET],
        not_a_target_class=options.not_a_target,
        result=result,
    )


def _check_classes(store: ChipStore, table: Path, counts: Counter[str], options: AdditionOptions) -> None:
    """Raise an error if the store does not have a class, with the classes that have a similar name."""
    faulty = [name for name in options.new_classes if describe_row_fault("chip", name) or not name.strip()]
    if faulty:
        raise RequestError(f"{faulty[0]!r} cannot name a class", "--new-class", "choose another name")
    unknown = [name for name in counts if name not in {*store.classes, *options.new_classes}]
    if not unknown:
        return
    folded = {name.casefold(): name for name in store.classes}
    hints: list[str] = []
    for name in unknown:
        similar = [folded[match] for match in get_close_matches(name.casefold(), folded, n=2, cutoff=0.7)]
        hints += [f"{name} may be {' or '.join(similar)}"] if similar else []
    hints.append("correct the table, or add " + " ".join(f"--new-class {shlex.quote(name)}" for name in unknown))
    texts = [f"{name} ({counts[name]:,} row{'s' * (counts[name] != 1)})" for name in unknown]
    message = f"the chip store has no class {', '.join(texts)}; it has {', '.join(store.classes)}"
    raise RequestError(message, table, "; ".join(hints))


def _read_chips(
    table: CorrectedTable,
    labeled: Sequence[tuple[CorrectedRow, str]],
    fit: StoreFit,
    declaration: Declaration,
    date: str,
    progress: Progress | None,
) -> tuple[list[LabeledChip], list[Rejection]]:
    """Return the chips of all rows with a label, and the rows whose chip does not fit or cannot be read."""
    chips, rejected = [], []
    cutter = ChipCutter(table, fit, declaration)
    try:
        with gdal_environment():
            for done, (row, label) in enumerate(labeled, 1):
                try:
                    if row.fault:
                        raise DataError(row.fault)
                    chips.append(_labeled_chip(table, row, label, cutter.read(row), fit, date))
                except DataError as error:
                    rejected.append((str(table.path.resolve()), row.line, error.message))
                if progress is not None:
                    progress(done, len(labeled), "reading corrected chips")
    finally:
        cutter.close()
    return chips, rejected


def _labeled_chip(
    table: CorrectedTable, row: CorrectedRow, label: str, chip: CorrectedChip, fit: StoreFit, date: str
) -> LabeledChip:
    columns = {
        "source": table.path.name,
        "unit": chip.unit,
        "bands": ",".join(fit.bands),
        "spacing_m": chip.spacing_m,
        "incidence_deg": row.incidence_deg,
        "sha256": hashlib.sha256(chip.data).hexdigest(),
        "added_from": table.path.name,
        "added_bundle": row.bundle or table.bundle_sha256 or None,
        "added_predicted": row.predicted or None,
        "added_on": date,
    }
    name = Path(row.chip or row.path).name
    name = name.removesuffix(Path(name).suffix) if Path(name).suffix.lower() == chip.suffix else name
    return LabeledChip(
        name=name or f"row_{row.line}",
        label=label,
        line=row.line,
        data=chip.data,
        suffix=chip.suffix,
        shape=chip.pixels.shape,
        digest=pixel_digest(chip.pixels),
        scene=chip.scene,
        split=row.split if row.split in ("val", "test") else "train",
        columns={key: value for key, value in columns.items() if value is not None},
    )
