"""What stands beside the chips of a store, written from the journal of its build."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from heapq import merge
from itertools import chain, islice
from operator import call
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rsft import __version__
from rsft.data.chips.build_journal import Journal, Row
from rsft.data.chips.figures import class_figure, contact_sheet, sheet_numbers
from rsft.data.chips.long_tail import groups_by_count
from rsft.data.chips.record import Plan
from rsft.data.chips.store import CONTACT, DATASET, FIGURE, MANIFEST, README, REJECTED, SCHEMA, SPLITS
from rsft.data.chips.summary import Counts, missing_classes
from rsft.errors import DataError
from rsft.types import Rejection
from rsft.utils.process_pool import unordered

_BATCH = 1000  # rows held in memory

Drawing = Callable[[], None]


def describe(store: Path, journal: Journal, bands: str, plan: Plan, jobs: int) -> None:
    """Write the manifest, the description, the rejections, the figures and README.md of the chips with `bands`.

    Raises:
        DataError: there is none.
    """
    counts = {split: dict.fromkeys(plan.classes, 0) for split in SPLITS}
    for (split, name), count in journal.counts(bands).items():
        counts[split][name] = count
    if not bands:
        _, _, reason = min(chain(plan.rejected, journal.rejections(bands)), default=("", 0, "there was none"))
        raise DataError("no chip can be used", plan.name, f"the first reason: {reason}")
    groups = plan.groups or groups_by_count(counts["train"])
    group_of = {name: group for group, names in groups.items() for name in names}
    flags = _write_manifest(store / MANIFEST, journal.rows(bands), group_of)
    rejected = _write_rejected(store / REJECTED, merge(sorted(plan.rejected), journal.rejections(bands)))
    facts = {"name": plan.name, "classes": list(plan.classes), "groups": groups, "bands": bands.split(",")}
    facts |= {"skipped": plan.skipped, "command": plan.command, "rsft_version": __version__}
    (store / DATASET).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    (store / README).write_text(_readme(plan, counts, group_of, flags, rejected), "utf-8")
    (store / CONTACT).mkdir(exist_ok=True)
    figure: Drawing = partial(_write_figure, store, plan.name, counts, group_of)
    for _ in unordered(call, chain([figure], _sheets(store, journal, bands)), jobs):
        pass


def _write_manifest(file: Path, rows: Iterator[Row], group_of: Mapping[str, str]) -> Counter[str]:
    """Write the rows, a batch at a time; return how often each flag stands in them."""
    flags: Counter[str] = Counter()
    with pq.ParquetWriter(file, SCHEMA) as writer:
        while batch := [row | {"group": group_of[row["class"]]} for row in islice(rows, _BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
            flags.update(flag for row in batch for flag in row["flags"].split(",") if flag)
    return flags


def _write_rejected(path: Path, rejections: Iterable[Rejection]) -> int:
    """Write them and return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "line", "reason"))
        for rejection in rejections:
            table.writerow(rejection)
            count += 1
    return count


def _sheets(store: Path, journal: Journal, bands: str) -> Iterator[Drawing]:
    """What writes the contact sheet of each class."""
    chips: Counter[str] = Counter()
    for (_, name), count in journal.counts(bands).items():
        chips[name] += count
    for name, count in chips.items():
        yield partial(_write_sheet, store, name, journal.paths(name, bands, sheet_numbers(count)))


def _write_figure(store: Path, title: str, counts: Counts, group_of: Mapping[str, str]) -> None:
    (store / FIGURE).write_bytes(class_figure(title, counts, group_of))


def _write_sheet(store: Path, name: str, paths: list[str]) -> None:
    (store / CONTACT / f"{name}.png").write_bytes(contact_sheet([store / path for path in paths]))


def _readme(plan: Plan, counts: Counts, group_of: Mapping[str, str], flags: Mapping[str, int], rejected: int) -> str:
    splits = [split for split in SPLITS if any(counts[split].values())]
    lines = [f"# {plan.name}", "", f"Chips for rsft {__version__}, made by `{plan.command}`.", ""]
    lines += [f"| class | group | {' | '.join(splits)} |", f"|---|---|{'---:|' * len(splits)}"]
    for name in plan.classes:
        lines.append(f"| {name} | {group_of[name]} | {' | '.join(str(counts[split][name]) for split in splits)} |")
    lines.append(f"| all | | {' | '.join(str(sum(counts[split].values())) for split in splits)} |")
    lines += ["", f"![classes]({FIGURE})", "", f"`{CONTACT}/` shows chips of each class."]
    lines += ["", f"Each chip has a row in `{MANIFEST}`. {rejected} inputs could not be used: see `{REJECTED}`."]
    tallies: dict[str, Mapping[str, object]] = {
        "Left out on purpose:": plan.skipped,
        "Kept, with a flag in the manifest:": flags,
        "Classes without a chip in a split that has some:": {
            split: ", ".join(names) for split, names in missing_classes(counts).items()
        },
    }
    for title, tally in tallies.items():
        if tally:
            lines += ["", title, "", *(f"- {what}: {found}" for what, found in sorted(tally.items()))]
    return "\n".join(lines) + "\n"
