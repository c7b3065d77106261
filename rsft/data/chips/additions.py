"""Add labeled chips to a finished store: new chips join it, chips that it has already get the new class."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rsft import __version__
from rsft.data.audit.findings import AUDIT_FILE
from rsft.data.chips.commit import commit_store, locked_store
from rsft.data.chips.figures import render_class_figure, render_contact_sheet, select_sheet_chips
from rsft.data.chips.long_tail import group_by_count
from rsft.data.chips.manifest_columns import PROVENANCE
from rsft.data.chips.pixel_digests import find_same_pixels
from rsft.data.chips.record import StoreDescription
from rsft.data.chips.sidecars import render_readme
from rsft.data.chips.store import (
    CLASS_FIGURE,
    CONTACT_SHEETS,
    README,
    REJECTED,
    ChipStore,
    read_dataset,
    read_manifest,
)
from rsft.data.chips.summary import count_chips
from rsft.data.croissant.vocabulary import CROISSANT_FILE
from rsft.errors import DataError
from rsft.types import Progress, Rejection
from rsft.utils.atomic_files import write_bytes, write_text
from rsft.utils.csv_cells import escape_cell

ADDITIONS = "additions"
"""Key in dataset.json of the list of additions."""

_STRICTEST_FIRST = ("test", "val", "train")


@dataclass(frozen=True)
class LabeledChip:
    """A chip with its label.

    Attributes:
        name: name of its file, without suffix.
        label: name of its class.
        line: row of the table with the label.
        data: content of its file.
        suffix: suffix of its file.
        shape: height, width and number of bands.
        digest: hash of its pixels, see `pixel_digest`.
        scene: name of its scene; "" if it is unknown.
        split: split in which it belongs if its scene is not in the store.
        columns: further columns of the manifest, such as unit, spacing_m and those in `PROVENANCE`.
    """

    name: str
    label: str
    line: int
    data: bytes
    suffix: str
    shape: tuple[int, ...]
    digest: str
    scene: str = ""
    split: str = "train"
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class AdditionResult:
    """What became of the labeled chips.

    Attributes:
        added: number of new chips by split and class.
        relabeled: number of chips that were in the store with another class, by old and new class.
        unchanged: number of chips that were in the store with this class.
        repeated: number of rows whose chip an earlier row has, with the same class.
        rejected: rows that cannot be used.
        splits: split of each scene, and whether the store had chips of it.
        notes: remarks for the reader.
    """

    added: Counter[tuple[str, str]] = field(default_factory=Counter)
    relabeled: Counter[tuple[str, str]] = field(default_factory=Counter)
    unchanged: int = 0
    repeated: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    splits: dict[str, tuple[str, bool]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_change(self) -> bool:
        """Whether the manifest changes."""
        return bool(self.added or self.relabeled)


@dataclass(frozen=True)
class AdditionSource:
    """Where labels come from.

    Attributes:
        table: the table with the labels.
        record: description of the addition in dataset.json, such as the date and the SHA-256 of the bundle.
        new_classes: names of classes that the store may get.
        rejected: rows that could not be read.
    """

    table: Path
    record: Mapping[str, Any]
    new_classes: Sequence[str] = ()
    rejected: Sequence[Rejection] = ()


def add_chips(
    root: Path, chips: Sequence[LabeledChip], source: AdditionSource, progress: Progress | None = None
) -> AdditionResult:
    """Add labeled chips to a store, all or none of them.

    A chip whose pixels are in the store is not stored again: it gets the new class, and stays in its split. Chips of a
    scene of which the store has chips join their split; other scenes go to the split that the chip names. Classes and
    their groups stay; new classes come last.

    Args:
        root: folder of the store.
        chips: the chips; all have a class of the store or one of `source.new_classes`.
        source: where the labels come from.
        progress: called while chips of the store are compared.

    Returns:
        What became of every chip.

    Raises:
        RequestError: another process changes the store.
        DataError: the store is damaged.
        RsftError: the disk is full or not writable.
    """
    with locked_store(root):
        store = ChipStore.open(root)
        manifest = read_manifest(root)
        same = find_same_pixels(root, manifest, {chip.digest: chip.shape for chip in chips}, progress)
        result = AdditionResult(rejected=list(source.rejected))
        fresh = _relabel(manifest, same, _distinct(chips, source.table, result), result)
        rows, files = _make_rows(manifest, fresh, result)
        if result.is_change:
            dataset = read_dataset(root)
            table = pd.concat([manifest, pd.DataFrame(rows)], ignore_index=True) if rows else manifest
            used = set(table["class"])
            classes = list(dict.fromkeys([*store.classes, *(name for name in source.new_classes if name in used)]))
            groups = _extend_groups(store, classes, table)
            table["group"] = table["class"].map({name: group for group, names in groups.items() for name in names})
            dataset |= {"classes": classes, "groups": groups}
            dataset[ADDITIONS] = [*dataset.get(ADDITIONS, []), _describe(source, result)]
            result.notes += _remove_descriptions(root)  # before the commit: they must not describe another manifest
            commit_store(root, table, dataset, files)
        _write_rejected(root / REJECTED, source.table, result.rejected)
        _refresh_sidecars(root, {chip.label for chip in chips} | {old for old, _ in result.relabeled})
    return result


def _remove_descriptions(root: Path) -> list[str]:
    """Remove the files that describe the manifest as it is; return how to write each of them again."""
    commands = {AUDIT_FILE: "rsft audit", CROISSANT_FILE: "rsft data croissant"}
    described = {name: command for name, command in commands.items() if (root / name).exists()}
    for name in described:
        (root / name).unlink()
    return [f"{name} described the store before: run `{command}` again" for name, command in described.items()]


def _distinct(chips: Sequence[LabeledChip], table: Path, result: AdditionResult) -> list[LabeledChip]:
    """Return the first chip of each content; count repeated rows, and reject those that contradict."""
    firsts: dict[str, LabeledChip] = {}
    for chip in chips:
        first = firsts.setdefault(chip.digest, chip)
        if first is chip:
            continue
        if first.label == chip.label:
            result.repeated += 1
        else:
            reason = f"the same chip is {first.label} in line {first.line}, and {chip.label} here"
            result.rejected.append((str(table), chip.line, reason))
    return list(firsts.values())


def _relabel(
    manifest: pd.DataFrame, same: Mapping[str, list[int]], chips: Sequence[LabeledChip], result: AdditionResult
) -> list[LabeledChip]:
    """Give rows of the manifest their new class, in place; return the chips that the store does not have."""
    for name in PROVENANCE:
        if name not in manifest:
            manifest[name] = pd.Series(None, manifest.index, object)
    columns = {name: manifest[name].to_numpy(object, copy=True) for name in ("class", "name", *PROVENANCE)}
    fresh, held_out = [], 0
    for chip in chips:
        rows = same.get(chip.digest, [])
        if not rows:
            fresh.append(chip)
        changed = [row for row in rows if columns["class"][row] != chip.label]
        result.unchanged += bool(rows) and not changed
        for row in changed:
            previous = str(columns["class"][row])
            result.relabeled[previous, chip.label] += 1
            name = _free_name(manifest, str(manifest["split"].iloc[row]), chip, str(columns["name"][row]))
            values = {"class": chip.label, "name": name, "added_previous": previous}
            values |= {key: value for key, value in chip.columns.items() if key in PROVENANCE}
            for key, value in values.items():
                columns[key][row] = value
            held_out += manifest["split"].iloc[row] != "train"
    if held_out:
        result.notes.append(f"{held_out:,} relabeled chips are in val or test: accuracies before were of other labels")
    for name, cells in columns.items():
        manifest[name] = pd.Series(cells, manifest.index, object)
    return fresh


def _free_name(manifest: pd.DataFrame, split: str, chip: LabeledChip, name: str) -> str:
    """Return `name`, or a longer one if another chip of the split and class has it."""
    taken = (manifest["split"] == split) & (manifest["class"] == chip.label) & (manifest["name"] == name)
    return f"{name}_{chip.digest[:8]}" if taken.any() else name


def _make_rows(
    manifest: pd.DataFrame, chips: Sequence[LabeledChip], result: AdditionResult
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return the manifest rows and the files of new chips."""
    splits, keys = _scene_splits(manifest)
    rows, files, paths = [], {}, set(manifest["path"])
    for chip in chips:
        scene = scene_key(chip.scene)
        split = splits.get(scene, chip.split)
        if scene:
            result.splits.setdefault(scene, (split, scene in splits))
        name = _free_name(manifest, split, chip, chip.name)
        if f"chips/{split}/{chip.label}/{name}{chip.suffix}" in paths:
            name = f"{chip.name}_{chip.digest[:8]}"
        path = f"chips/{split}/{chip.label}/{name}{chip.suffix}"
        paths.add(path)
        files[path] = chip.data
        row = {"name": name, "path": path, "split": split, "class": chip.label, "flags": ""}
        rows.append(row | {"group_key": keys.get(scene, scene or None)} | dict(chip.columns))
        result.added[split, chip.label] += 1
    _note_unknown_scenes(manifest, chips, result)
    return rows, files


def _scene_splits(manifest: pd.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """Return the split and the group key of every scene of the store."""
    splits: dict[str, str] = {}
    keys: dict[str, str] = {}
    pairs = manifest[["group_key", "split"]].dropna().drop_duplicates()
    for key, split in pairs[pairs["group_key"] != ""].itertuples(index=False):
        scene = scene_key(key)
        keys.setdefault(scene, key)
        splits[scene] = min(splits.get(scene, split), split, key=_STRICTEST_FIRST.index)
    return splits, keys


def _note_unknown_scenes(manifest: pd.DataFrame, chips: Sequence[LabeledChip], result: AdditionResult) -> None:
    """Say where a scene may get into two splits, because chips do not name theirs."""
    nameless = sum(not chip.scene for chip in chips)
    if nameless:
        result.notes.append(f"{nameless:,} new chips do not name their scene, so their split may not suit it")
    stored = int((manifest["group_key"].fillna("") == "").sum())
    if stored and any(not is_known for _, is_known in result.splits.values()):
        result.notes.append(f"{stored:,} chips of the store do not name their scene: it may be one of the new scenes")


def scene_key(name: str) -> str:
    """Return the name of a scene by which the chips of one scene are recognized.

    Args:
        name: name or path of a scene, such as "S1A_IW.SAFE", or a group key of a store.

    Returns:
        The file name without suffix.
    """
    stem = Path(name.replace("\\", "/")).name
    for suffix in (".zip", ".SAFE", ".tif", ".tiff", ".img", ".jp2", ".png", ".json", ".nc", ".h5", ".ntf", ".vrt"):
        stem = stem[: -len(suffix)] if stem.lower().endswith(suffix.lower()) else stem
    return stem


def _extend_groups(store: ChipStore, classes: Sequence[str], table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the groups of the classes. Those of the store stay, so that runs before and after can be compared."""
    groups = {group: list(names) for group, names in store.groups.items()}
    counts = table["class"][table["split"] == "train"].value_counts()
    fresh = {name: int(counts.get(name, 0)) for name in classes if name not in store.classes}
    for group, names in group_by_count(fresh).items():
        groups.setdefault(group, []).extend(names)
    return groups


def _describe(source: AdditionSource, result: AdditionResult) -> dict[str, Any]:
    """Return the entry of an addition in dataset.json."""
    return {
        **source.record,
        "added": [{"split": x, "class": name, "chips": count} for (x, name), count in sorted(result.added.items())],
        "relabeled": [{"from": x, "to": y, "chips": count} for (x, y), count in sorted(result.relabeled.items())],
        "rejected": len(result.rejected),
        "rsft_version": __version__,
    }


def _write_rejected(path: Path, table: Path, rejections: Sequence[Rejection]) -> None:
    """Append the rejected rows of a table; those of an earlier attempt with this table are replaced."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except (ValueError, csv.Error) as error:
        hint = "remove its damaged lines; the first line is file,line,reason"
        raise DataError(f"the list of rejected inputs is damaged: {error}", path, hint) from error
    kept = [row for row in rows if row[0] != escape_cell(str(table))]
    new_rows = [*kept, *([str(escape_cell(value)) for value in rejection] for rejection in rejections)]
    if new_rows == rows:
        return
    lines: list[str] = []
    writer = csv.writer(_LineList(lines), lineterminator="\n")
    writer.writerows([header, *new_rows])
    write_text(path, "".join(lines))


class _LineList:
    """A file for `csv.writer` that collects its lines."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def write(self, line: str) -> None:
        """Append a line."""
        self.lines.append(line)


def _refresh_sidecars(root: Path, labels: set[str]) -> None:
    """Write README.md, the class figure, and the contact sheets of some classes again."""
    store, dataset = ChipStore.open(root), read_dataset(root)
    group_of = {name: group for group, names in store.groups.items() for name in names}
    counts = count_chips(store)
    flags = Counter(flag for flags in store.table["flags"].dropna() for flag in flags.split(",") if flag)
    description = StoreDescription(
        store.name, store.classes, dataset.get("command", ""), skipped=store.skipped, license=store.license
    )
    additions = [describe_addition(record) for record in dataset.get(ADDITIONS, [])]
    text = render_readme(description, counts, group_of, flags, store.rejected, additions)
    write_text(root / README, text)
    write_bytes(root / CLASS_FIGURE, render_class_figure(store.name, counts, group_of))
    for label in sorted(labels):
        paths = [root / path for path in store.table["path"][store.table["class"] == label]]
        if paths:
            sheet = render_contact_sheet([paths[number] for number in select_sheet_chips(len(paths))])
            write_bytes(root / CONTACT_SHEETS / f"{label}.png", sheet)


def describe_addition(record: Mapping[str, Any]) -> str:
    """Return a sentence on an addition in dataset.json.

    Args:
        record: the entry of the addition.

    Returns:
        A sentence such as "2026-11-26: 12 chips from corrected.csv, 1 relabeled".
    """
    added = sum(item["chips"] for item in record["added"])
    relabeled = sum(item["chips"] for item in record["relabeled"])
    return f"{record['date'][:10]}: {added:,} chips from {record['table']}, {relabeled:,} relabeled"
