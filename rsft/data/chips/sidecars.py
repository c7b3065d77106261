"""Files beside the chips of a store, written from the journal of its build."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import chain, islice
from operator import call
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rsft import __version__
from rsft.data.chips.build_journal import BuildJournal, ManifestRow
from rsft.data.chips.figures import render_class_figure, render_contact_sheet, select_sheet_chips
from rsft.data.chips.long_tail import group_by_count
from rsft.data.chips.manifest_columns import SPLITS
from rsft.data.chips.record import StoreDescription
from rsft.data.chips.store import CLASS_FIGURE, CONTACT_SHEETS, DATASET, MANIFEST, README, REJECTED, SCHEMA
from rsft.data.chips.summary import Counts, missing_classes
from rsft.errors import DataError
from rsft.types import Rejection
from rsft.utils.csv_cells import escape_cell
from rsft.utils.licenses import describe_license, license_restrictions
from rsft.utils.process_pool import imap_unordered
from rsft.utils.untrusted.markdown import code_span, escape_markdown

_BATCH = 1000  # rows in memory

DrawTask = Callable[[], None]
"""Draws a figure and writes its file."""


def write_sidecars(store: Path, journal: BuildJournal, bands: str, description: StoreDescription, jobs: int) -> None:
    """Write the manifest, dataset.json, rejected.csv, the figures and README.md.

    Args:
        store: folder of the store.
        journal: journal of the build.
        bands: bands of the chips that belong to the store, joined by commas.
        description: name, classes, groups and command of the store.
        jobs: number of worker processes for the figures.

    Raises:
        DataError: the store has no chip, or none of a required source.
    """
    counts = {split: dict.fromkeys(description.classes, 0) for split in SPLITS}
    for (split, name), count in journal.counts(bands).items():
        counts[split][name] = count
    if not bands:
        rejections = chain(description.rejected, journal.rejections(bands))
        _, _, reason = min(rejections, default=("", 0, "the input is empty"))
        raise DataError("no chip can be used", description.name, f"the first reason: {reason}")
    _check_sources(journal, bands, description)
    groups = description.groups or group_by_count(counts["train"])
    group_of = {name: group for group, names in groups.items() for name in names}
    flags = _write_manifest(store / MANIFEST, journal.rows(bands), group_of)
    rejected = _write_rejected(store / REJECTED, merge(sorted(description.rejected), journal.rejections(bands)))
    metadata = {"name": description.name, "classes": list(description.classes), "groups": groups}
    metadata |= {"bands": bands.split(","), "skipped": description.skipped, "command": description.command}
    metadata |= {"license": description.license, "rsft_version": __version__}
    (store / DATASET).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")
    (store / README).write_text(render_readme(description, counts, group_of, flags, rejected), "utf-8")
    (store / CONTACT_SHEETS).mkdir(exist_ok=True)
    figure: DrawTask = partial(_write_figure, store, description.name, counts, group_of)
    for _ in imap_unordered(call, chain([figure], _sheet_tasks(store, journal, bands)), jobs):
        pass


def _check_sources(journal: BuildJournal, bands: str, description: StoreDescription) -> None:
    """Raise an error if a required source has no chip."""
    missing = dict(description.required_sources)
    for row in journal.rows(bands) if missing else ():
        missing.pop(row.get("source", ""), None)
        if not missing:
            return
    for source, hint in missing.items():
        rejections = chain(description.rejected, journal.rejections(bands))
        file, _, reason = min(rejections, default=("", 0, "no input of it is left"))
        raise DataError(
            f"{source} gives no chip", description.name, f"the first rejected input: {file}: {reason}. {hint}"
        )


def _write_manifest(file: Path, rows: Iterator[ManifestRow], group_of: Mapping[str, str]) -> Counter[str]:
    """Write the rows batch by batch; return the number of rows with each flag."""
    flags: Counter[str] = Counter()
    with pq.ParquetWriter(file, SCHEMA) as writer:
        while batch := [row | {"group": group_of[row["class"]]} for row in islice(rows, _BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
            flags.update(flag for row in batch for flag in row["flags"].split(",") if flag)
    return flags


def _write_rejected(path: Path, rejections: Iterable[Rejection]) -> int:
    """Write the rejected inputs and return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "line", "reason"))
        for rejection in rejections:
            table.writerow([escape_cell(value) for value in rejection])
            count += 1
    return count


def _sheet_tasks(store: Path, journal: BuildJournal, bands: str) -> Iterator[DrawTask]:
    """Yield one task per class, which writes its contact sheet."""
    chips: Counter[str] = Counter()
    for (_, name), count in journal.counts(bands).items():
        chips[name] += count
    for name, count in chips.items():
        yield partial(_write_sheet, store, name, journal.paths(name, bands, select_sheet_chips(count)))


def _write_figure(store: Path, title: str, counts: Counts, group_of: Mapping[str, str]) -> None:
    (store / CLASS_FIGURE).write_bytes(render_class_figure(title, counts, group_of))


def _write_sheet(store: Path, name: str, paths: list[str]) -> None:
    (store / CONTACT_SHEETS / f"{name}.png").write_bytes(render_contact_sheet([store / path for path in paths]))


def render_readme(
    description: StoreDescription,
    counts: Counts,
    group_of: Mapping[str, str],
    flags: Mapping[str, int],
    rejected: int,
    additions: Sequence[str] = (),
) -> str:
    """Return the text of README.md.

    Args:
        description: name, classes, command and license of the store.
        counts: number of chips by split and class.
        group_of: group of each class.
        flags: number of chips by flag.
        rejected: number of inputs that cannot be used.
        additions: one sentence per addition to the finished store.

    Returns:
        Markdown.
    """
    splits = [split for split in SPLITS if any(counts[split].values())]
    lines = [
        f"# {escape_markdown(description.name)}",
        "",
        f"Chips for rsft {__version__}, made by {code_span(description.command)}.",
        "",
    ]
    license_text = describe_license(description.license, license_restrictions(description.license))
    lines += [f"License of the data: {escape_markdown(license_text)}.", ""]
    lines += [f"| class | group | {' | '.join(splits)} |", f"|---|---|{'---:|' * len(splits)}"]
    for name in description.classes:
        cells = escape_markdown(name), escape_markdown(group_of[name]), *(str(counts[split][name]) for split in splits)
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| all | | {' | '.join(str(sum(counts[split].values())) for split in splits)} |")
    lines += ["", f"![classes]({CLASS_FIGURE})", "", f"`{CONTACT_SHEETS}/` shows chips of each class."]
    lines += ["", f"Each chip has one row in `{MANIFEST}`. `{REJECTED}` lists {rejected} inputs that cannot be used."]
    if additions:
        lines += ["", "Added later:", "", *(f"- {escape_markdown(text)}" for text in additions)]
    tallies: dict[str, Mapping[str, object]] = {
        "Left out on purpose:": description.skipped,
        "Kept, with a flag in the manifest:": flags,
        "Classes that a split lacks:": {split: ", ".join(names) for split, names in missing_classes(counts).items()},
    }
    for title, tally in tallies.items():
        if tally:
            lines += [
                "",
                title,
                "",
                *(f"- {escape_markdown(name)}: {escape_markdown(str(value))}" for name, value in sorted(tally.items())),
            ]
    return "\n".join(lines) + "\n"
