"""Add the labels of a corrected table to a chip store.

The pixels of the chips come from their files, or are cut from the scene again, if they
fit the store.
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from rsft.data.chips.additions import (
    ADDITIONS,
    AdditionResult,
    LabeledChip,
    add_chips,
    scene_key,
)
from rsft.data.chips.record import NO_CLASS, NOT_A_TARGET, UNSURE, resolve_label
from rsft.data.chips.store import REJECTED, ChipStore, read_dataset
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.imagery.products.product import Product
from rsft.data.similarity import pixel_digest
from rsft.errors import DataError, RequestError
from rsft.inference.corrections.corrected_table import (
    CorrectedRow,
    CorrectedTable,
    read_corrected_table,
)
from rsft.inference.corrections.cutter import (
    ChipCutter,
    CorrectedChip,
    Sources,
    StoreFit,
)
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.raster import gdal_environment
from rsft.types import Progress, Rejection
from rsft.utils.atomic_files import sha256


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
    new_classes: tuple[str, ...] = ()
    declaration: Declaration = UNDECLARED
    mixed_noise: bool = False
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True)
class CorrectionSummary:
    """What became of the rows of a corrected table.

    Attributes:
        rows: number of rows.
        unlabeled: number of rows without a label.
        unsure: number of rows of which the reviewer was unsure.
        not_a_target: number of rows that are not a target.
        not_a_target_class: class of the rows that are not a target; None if they were
            left out.
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


def add_corrections(
    root: Path,
    table: Path,
    options: AdditionOptions | None = None,
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
    options = options or AdditionOptions()
    store = ChipStore.open(root)
    corrected = read_corrected_table(table, options.label_field)
    labels = [
        resolve_label(row.verdict, options.not_a_target) for row in corrected.rows
    ]
    counts = Counter(label for label, _ in labels if label)
    _check_classes(store, table, counts, options)
    unlabeled = sum(reason == NO_CLASS for _, reason in labels)
    verdicts = Counter(row.verdict for row in corrected.rows)
    labeled = []
    for row, (label, _) in zip(corrected.rows, labels, strict=True):
        if label:
            labeled.append((row, label))
    if not labeled:
        raise _no_label_error(table, unlabeled, verdicts)
    noise = _read_noise(corrected, {scene_key(row.scene) for row, _ in labeled})
    if not options.mixed_noise:
        _check_noise(root, table, noise)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    chips, rejected = _read_chips(corrected, labeled, store, options, date, progress)
    record: dict[str, object] = {
        "date": date,
        "table": table.name,
        "table_sha256": sha256(table),
        "bundle_sha256": corrected.bundle_sha256 or None,
        "not_a_target": options.not_a_target,
        "noise": sorted(noise),
    }
    result = add_chips(
        root,
        chips,
        table=table.resolve(),
        record=record,
        new_classes=options.new_classes,
        rejected=rejected,
        progress=progress,
    )
    if len(result.rejected) == len(labeled):
        _, line, reason = result.rejected[0]
        raise DataError(
            f"none of the {len(labeled):,} labels can be used; line {line}: {reason}",
            root / REJECTED,
            "the file lists the reason for each row",
        )
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


def _no_label_error(
    table: Path, unlabeled: int, verdicts: Counter[str]
) -> RequestError:
    counts = {"not looked at": unlabeled}
    counts |= {verdict: verdicts[verdict] for verdict in (UNSURE, NOT_A_TARGET)}
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    hint = "give each chip that you looked at a class"
    if verdicts[NOT_A_TARGET]:
        hint = (
            "to learn from chips that are not a target, name their class:"
            " --not-a-target clutter"
        )
    message = f"no row has a label ({listed or 'the table is empty'})"
    return RequestError(message, table, hint)


def _read_noise(table: CorrectedTable, scenes: set[str]) -> dict[str, list[str]]:
    """Return the scenes by what the predictions say of their thermal noise.

    Args:
        table: the table.
        scenes: keys of the scenes that count.
    """
    noise: dict[str, list[str]] = {}
    for product in table.metadata.get("products") or ():
        name = str(product.get("scene") or "")
        note = str(product.get("noise") or "")
        if note and scene_key(name) in scenes:
            noise.setdefault(note, []).append(name)
    return noise


def _check_noise(root: Path, table: Path, noise: dict[str, list[str]]) -> None:
    """Raise an error if the thermal noise was removed from some of the scenes only."""
    earlier: set[str] = set()
    for addition in read_dataset(root).get(ADDITIONS, ()):
        earlier.update(addition.get("noise", ()))
    if len({note == Product.NOISE_REMOVED for note in {*noise, *earlier}}) < 2:
        return
    texts = [
        f"{note}: {', '.join(sorted(names)[:3])}"
        for note, names in sorted(noise.items())
    ]
    if earlier:
        texts.append(f"earlier additions: {', '.join(sorted(earlier))}")
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
            message = f"{name!r} cannot name a class"
            raise RequestError(message, "--new-class", "choose another name")
    classes = {*store.classes, *options.new_classes}
    unknown = [name for name in counts if name not in classes]
    if not unknown:
        return
    folded = {name.casefold(): name for name in store.classes}
    hints = []
    texts = []
    for name in unknown:
        matches = get_close_matches(name.casefold(), folded, n=2, cutoff=0.7)
        if matches:
            similar = " or ".join(folded[match] for match in matches)
            hints.append(f"{name} may be {similar}")
        rows = "1 row" if counts[name] == 1 else f"{counts[name]:,} rows"
        texts.append(f"{name} ({rows})")
    flags = [f"--new-class {shlex.quote(name)}" for name in unknown]
    hints.append(f"correct the table, or add {' '.join(flags)}")
    message = f"the chip store has no class {', '.join(texts)}"
    message += f"; it has {', '.join(store.classes)}"
    raise RequestError(message, table, "; ".join(hints))


def _read_chips(
    table: CorrectedTable,
    labeled: Sequence[tuple[CorrectedRow, str]],
    store: ChipStore,
    options: AdditionOptions,
    date: str,
    progress: Progress | None,
) -> tuple[list[LabeledChip], list[Rejection]]:
    """Return the chips of all rows with a label, and the rows without a usable chip."""
    chips = []
    rejected = []
    sources = None
    if options.sources is not None:
        sources = Sources(store.root, table.path, options.sources)
    cutter = ChipCutter(table, StoreFit(store), options.declaration, sources)
    common = {
        "source": table.path.name,
        "bands": ",".join(store.bands),
        "added_from": table.path.name,
        "added_on": date,
    }
    with closing(cutter), gdal_environment():
        for done, (row, label) in enumerate(labeled, 1):
            try:
                if row.fault:
                    raise DataError(row.fault)
                chip = cutter.read(row)
            except DataError as error:
                rejected.append((str(table.path.resolve()), row.line, error.message))
            else:
                bundle = row.bundle or table.bundle_sha256
                chips.append(_label_chip(row, label, chip, bundle, common))
            if progress is not None:
                progress(done, len(labeled), "reading corrected chips")
    return chips, rejected


def _label_chip(
    row: CorrectedRow,
    label: str,
    chip: CorrectedChip,
    bundle: str,
    common: dict[str, str],
) -> LabeledChip:
    """Return a chip with its columns in the manifest.

    Args:
        row: the row of the table.
        label: its class.
        chip: its pixels.
        bundle: SHA-256 of the bundle that classified it; "" if unknown.
        common: columns that all chips share.
    """
    columns = {
        **common,
        "unit": chip.unit,
        "spacing_m": chip.spacing_m,
        "incidence_deg": row.incidence_deg,
        "sha256": hashlib.sha256(chip.data).hexdigest(),
        "added_bundle": bundle or None,
        "added_predicted": row.predicted or None,
    }
    name = Path(row.chip or row.path).name
    if Path(name).suffix.lower() == chip.suffix:
        name = Path(name).stem
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
