"""Writes chip stores: one stream of records in, a whole root out or none at all."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsft import __version__
from rsft.chips.longtail import groups_by_count
from rsft.chips.store import DATASET, MANIFEST, README, REJECTED, SCHEMA, SPLITS, ChipStore
from rsft.errors import DataError, RequestError
from rsft.files import replacing_folder
from rsft.imagery.contract import NUMBER_TYPE, Pixels
from rsft.imagery.read import read_chip

Progress = Callable[[int, int, str], None]
Rejection = tuple[str, int, str]  # file, line (0: the whole file), reason

_USUAL_BANDS = {1: ("gray",), 3: ("R", "G", "B")}


@dataclass(frozen=True)
class Record:
    """A chip to be stored.

    Attributes:
        name: unique within its split and class.
        origin: the file that it is, or, where `cut` gives its pixels (H, W, B), the label file that describes it.
        line: of that label file, from 1.
        bands: names of its bands; by their number, gray or R, G, B, where None.
        facts: further columns of the manifest, such as spacing_m and mmsi.
    """

    name: str
    split: str
    label: str
    origin: Path
    cut: Callable[[], Pixels] | None = None
    line: int = 0
    bands: tuple[str, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a build knows beside its chips.

    Attributes:
        classes: in the order of the labels.
        groups: class names of head, medium and tail; by training count where None.
        command: that makes the same store again.
        skipped: inputs left out on purpose, by reason.
        rejected: inputs that could not be used.
    """

    name: str
    classes: Sequence[str]
    command: str
    groups: Mapping[str, Sequence[str]] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: Sequence[Rejection] = ()


def build_store(
    root: Path, records: Sequence[Record], plan: Plan, *, overwrite: bool = False, progress: Progress | None = None
) -> ChipStore:
    """Write the chip store `root`, whole or not at all; the same records give the same bytes.

    A record that cannot be read, or whose unit or bands do not fit, goes to rejected.csv with the reason.

    Raises:
        RequestError: `root` holds something already.
        DataError: no record can be used, or two have one name.
    """
    check_free(root, overwrite)
    with replacing_folder(root) as folder:
        writer = _Writer(folder)
        for done, record in enumerate(sorted(records, key=lambda record: (record.split, record.label, record.name))):
            writer.add(record)
            if progress is not None:
                progress(done + 1, len(records), "writing chips")
        writer.finish(plan)
    return ChipStore.open(root)


def check_free(root: Path, overwrite: bool) -> None:
    """Refuse a root that holds something; `overwrite` gives way for a chip store, never for anything else.

    Raises:
        RequestError: the root is taken.
    """
    if (root.is_dir() and not any(root.iterdir())) or not root.exists():
        return
    if not (root / DATASET).is_file():
        raise RequestError("something that is no chip store is there already", root, "choose another --root")
    if not overwrite:
        raise RequestError("there is a chip store already", root, "add --overwrite, or choose another --root")


class _Writer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.rejected: list[Rejection] = []
        self.origins: dict[str, Record] = {}

    def add(self, record: Record) -> None:
        """Write one chip and note its row, or note why not."""
        try:
            pixels = read_chip(record.origin) if record.cut is None else record.cut()
            unit, bands = _unit(pixels), _bands(pixels, record.bands)
            data = record.origin.read_bytes() if record.cut is None else _png(pixels)
        except DataError as error:
            place = (error.where, 0) if error.where else (str(record.origin), record.line)
            self.rejected.append((*place, error.what))
            return
        suffix = record.origin.suffix.lower() if record.cut is None else ".png"
        path = Path("chips", record.split, record.label, record.name + suffix)
        target = self.folder / path
        if target.exists():
            raise DataError(
                f"two chips of {record.label} are called {record.name}", record.origin, "rename one of them"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        row = {"name": record.name, "path": path.as_posix(), "split": record.split, "class": record.label}
        row |= {"unit": unit, "bands": ",".join(bands), "sha256": hashlib.sha256(data).hexdigest()}
        self.rows.append({"flags": ""} | row | dict(record.facts))
        self.origins[row["path"]] = record

    def finish(self, plan: Plan) -> None:
        """Write what stands beside the chips."""
        bands = self._keep_commonest_bands()
        if not self.rows:
            reason = self.rejected[0][2] if self.rejected else "there was none"
            raise DataError("no chip can be used", plan.name, f"the first reason: {reason}")
        counts = {split: dict.fromkeys(plan.classes, 0) for split in SPLITS}
        for row in self.rows:
            counts[row["split"]][row["class"]] += 1
        groups = plan.groups or groups_by_count(counts["train"])
        group_of = {name: group for group, names in groups.items() for name in names}
        rows = sorted((row | {"group": group_of[row["class"]]} for row in self.rows), key=itemgetter("path"))
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), self.folder / MANIFEST)
        facts = {"name": plan.name, "classes": list(plan.classes), "groups": groups, "bands": bands}
        facts |= {"skipped": plan.skipped, "command": plan.command, "rsft_version": __version__}
        (self.folder / DATASET).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        rejected = sorted([*plan.rejected, *self.rejected])
        with (self.folder / REJECTED).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("file", "line", "reason"), *rejected])
        flags = Counter(flag for row in rows for flag in row["flags"].split(",") if flag)
        (self.folder / README).write_text(_readme(plan, counts, group_of, flags, len(rejected)), "utf-8")

    def _keep_commonest_bands(self) -> list[str]:
        """One network takes one set of bands: chips with another are rejected."""
        found = [row["bands"] for row in self.rows]
        kept = max(sorted(set(found)), key=found.count, default="")
        for row in self.rows:
            if row["bands"] != kept:
                (self.folder / row["path"]).unlink()
                record = self.origins[row["path"]]
                self.rejected.append((str(record.origin), record.line, f"{row['bands']}, but most chips have {kept}"))
        self.rows = [row for row in self.rows if row["bands"] == kept]
        return kept.split(",")


def _unit(pixels: Pixels) -> str:
    for unit, number_type in NUMBER_TYPE.items():
        if pixels.dtype == number_type:
            return unit
    raise DataError(f"{pixels.dtype} pixels; a chip is {' or '.join(NUMBER_TYPE)}")


def _bands(pixels: Pixels, names: tuple[str, ...] | None) -> tuple[str, ...]:
    count = pixels.shape[2]
    bands = names or _USUAL_BANDS.get(count)
    if bands is None or len(bands) != count:
        raise DataError(f"{count} bands; a chip has {len(names) if names else '1 (gray) or 3 (R, G, B)'}")
    return bands


def _png(pixels: Pixels) -> bytes:
    """(H, W, 1 or 3) -> PNG."""
    ordered = np.ascontiguousarray(pixels[:, :, ::-1])  # OpenCV takes B, G, R
    return cv2.imencode(".png", ordered)[1].tobytes()


def _readme(
    plan: Plan,
    counts: Mapping[str, Mapping[str, int]],
    group_of: Mapping[str, str],
    flags: Mapping[str, int],
    rejected: int,
) -> str:
    splits = [split for split in SPLITS if any(counts[split].values())]
    lines = [f"# {plan.name}", "", f"Chips for rsft {__version__}, made by `{plan.command}`.", ""]
    lines += [f"| class | group | {' | '.join(splits)} |", f"|---|---|{'---:|' * len(splits)}"]
    for name in plan.classes:
        lines.append(f"| {name} | {group_of[name]} | {' | '.join(str(counts[split][name]) for split in splits)} |")
    lines.append(f"| all | | {' | '.join(str(sum(counts[split].values())) for split in splits)} |")
    lines += ["", f"Each chip has a row in `{MANIFEST}`. {rejected} inputs could not be used: see `{REJECTED}`."]
    for title, tally in (("Left out on purpose:", plan.skipped), ("Kept, with a flag in the manifest:", flags)):
        if tally:
            lines += ["", title, "", *(f"- {reason}: {count}" for reason, count in sorted(tally.items()))]
    return "\n".join(lines) + "\n"
