"""Add labeled chips to a finished store.

New chips join it; chips that it has already get the new class.

A chip is recognized by its pixels, whatever the format of its file. A killed process
leaves no mixture: the new manifest gets its name in one step, and this step decides.
Before it, readers see the old store, after it the new one. Before it, the description
of the new store waits in dataset.json beside the old one, with the hash of the manifest
that it belongs to. New chips that no manifest names are written again by the next
attempt.
"""

import csv
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips.builder import store_lock
from rsft.data.chips.chip_content import make_chip, read_pixels, write_chip
from rsft.data.chips.manifest import (
    MANIFEST,
    PROVENANCE,
    ROW_GROUP,
    SCHEMA,
    SPLITS,
    read_manifest,
)
from rsft.data.chips.record import ChipRecord, group_by_class, group_by_count
from rsft.data.chips.sidecars import write_sidecars
from rsft.data.chips.store import (
    AUDIT_FILE,
    DATASET,
    PENDING,
    REJECTED,
    ChipStore,
    read_dataset,
    write_rejected,
)
from rsft.data.imagery.reader import read_chip
from rsft.data.similarity import pixel_digest
from rsft.errors import DataError
from rsft.types import JsonObject, Progress, Rejection
from rsft.utils.atomic_files import atomic_file, write_bytes, write_text
from rsft.utils.operating_system import sync_all
from rsft.utils.progress import track
from rsft.utils.tables import escape_cell
from rsft.utils.untrusted.documents import load_json, read_regular
from rsft.utils.write_errors import explain_os_error
from rsft.version import __version__

_SUFFIXES = re.compile(
    r"(\.(zip|safe|tiff?|img|jp2|png|json|nc|h5|ntf|vrt))+$", re.IGNORECASE
)


@contextmanager
def locked_store(root: Path) -> Iterator[None]:
    """Keep other processes from changing a store.

    A change that was interrupted is settled first.

    Raises:
        RequestError: another process changes or builds the store.
        DataError: the record of the interrupted change or the manifest is damaged.
        RsftError: the disk is full or not writable.
    """
    root = root.resolve()
    try:
        with store_lock(root):
            dataset = read_dataset(root)
            if dataset != load_json(root / DATASET):  # a process was killed
                _write_json(root / DATASET, dataset)
            yield
    except OSError as error:
        raise explain_os_error(
            error,
            root,
            "run the same command again: the store is the old or the new one",
        ) from error


def commit_store(
    root: Path,
    manifest: pd.DataFrame,
    dataset: JsonObject,
    files: Mapping[str, bytes],
) -> None:
    """Replace manifest and description of a store, and write its new chips.

    The store must be locked.

    Args:
        root: folder of the store.
        manifest: all rows of the new manifest, in any order.
        dataset: the new content of dataset.json.
        files: content of the new chips, by path relative to `root`.
    """
    table = manifest.sort_values("path", kind="stable")
    # columns that rsft does not know stay
    types = {field.name: field.type for field in SCHEMA} | PROVENANCE
    arrays = {
        name: pa.array(table[name], types.get(name))
        for name in dict.fromkeys([*SCHEMA.names, *table.columns])
    }
    with BytesIO() as out:
        pq.write_table(pa.table(arrays), out, row_group_size=ROW_GROUP)
        data = out.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    pending = {"manifest_sha256": digest, DATASET: dataset}
    _write_json(root / DATASET, read_dataset(root) | {PENDING: pending})
    for path, content in files.items():
        write_chip(root / path, content)
    sync_all()  # the chips must be on the disk before the manifest names them
    write_bytes(root / MANIFEST, data)
    _write_json(root / DATASET, dataset)


def _write_json(path: Path, content: JsonObject) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


ADDITIONS = "additions"
"""Key in dataset.json of the list of additions."""


@dataclass
class AdditionResult:
    """What became of the labeled chips.

    Attributes:
        added: number of new chips by split and class.
        relabeled: number of chips that were in the store with another class, by old and
            new class.
        unchanged: number of chips that were in the store with this class.
        repeated: number of rows whose chip an earlier row has, with the same class.
        rejected: rows that cannot be used.
        notes: remarks for the reader.
    """

    added: Counter[tuple[str, str]] = field(default_factory=Counter)
    relabeled: Counter[tuple[str, str]] = field(default_factory=Counter)
    unchanged: int = 0
    repeated: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reject(self, record: ChipRecord, reason: str) -> None:
        """Add a row that cannot be used."""
        self.rejected.append((str(record.source_path), record.line, reason))

    def as_json(self) -> JsonObject:
        """Return what the entry of an addition in dataset.json says of its chips."""
        return {
            "added": [
                {"split": split, "class": name, "chips": count}
                for (split, name), count in sorted(self.added.items())
            ],
            "relabeled": [
                {"from": old, "to": new, "chips": count}
                for (old, new), count in sorted(self.relabeled.items())
            ],
            "rejected": len(self.rejected),
            "rsft_version": __version__,
        }


def add_chips(
    root: Path,
    records: Sequence[ChipRecord],
    table: Path,
    details: JsonObject,
    new_classes: Sequence[str] = (),
    rejected: Sequence[Rejection] = (),
    progress: Progress | None = None,
) -> AdditionResult:
    """Add labeled chips to a store, all or none of them.

    A chip whose pixels are in the store is not stored again: it gets the new class, and
    stays in its split. Chips of a scene of which the store has chips join their split;
    other scenes go to the split that the record names. Classes and their groups stay;
    new classes come last.

    Args:
        root: folder of the store.
        records: the chips, as `build_store` takes them; their column group_key names
            their scene, and their source is `table`. All have a class of the store or
            one of `new_classes`.
        table: the table with the labels.
        details: description of the addition in dataset.json, such as the date and the
            SHA-256 of the bundle.
        new_classes: names of classes that the store may get.
        rejected: rows of the table that could not be read.
        progress: called while chips of the store are compared.

    Returns:
        What became of every chip.

    Raises:
        RequestError: another process changes the store.
        DataError: the store or a chip is damaged.
        RsftError: the disk is full or not writable.
    """
    with locked_store(root):
        addition = _Addition(root, AdditionResult(rejected=list(rejected)))
        addition.add(_distinct(records, addition.result), progress)
        result = addition.result
        if result.added or result.relabeled:
            addition.commit(details, new_classes)
        _list_rejected(root / REJECTED, table, result.rejected)
        labels = {record.label for record in records}
        labels.update(old for old, _ in result.relabeled)
        write_sidecars(root, labels, write=write_bytes)
    return result


def _distinct(
    records: Sequence[ChipRecord], result: AdditionResult
) -> dict[str, ChipRecord]:
    """Return the first chip of each content, by the hash of its pixels.

    Repeated rows are counted, and those that contradict are rejected.
    """
    firsts: dict[str, ChipRecord] = {}
    for record in records:
        first = firsts.setdefault(pixel_digest(read_pixels(record)), record)
        if first is record:
            continue
        if first.label == record.label:
            result.repeated += 1
        else:
            result.reject(
                record,
                f"the same chip is {first.label} in line {first.line}, and"
                f" {record.label} here",
            )
    return firsts


class _Addition:
    """The new manifest of a store, to which chips are added.

    Args:
        root: folder of the store.
        result: what became of the chips.
    """

    def __init__(self, root: Path, result: AdditionResult) -> None:
        self.root = root
        self.result = result
        manifest = read_manifest(root)
        columns = dict.fromkeys([*manifest, *PROVENANCE])
        self.manifest = manifest.reindex(columns=list(columns)).astype(
            dict.fromkeys(("class", "name", *PROVENANCE), object)
        )
        self.rows: list[JsonObject] = []
        self.files: dict[str, bytes] = {}
        self.held_out = 0  # changed rows outside of the training split
        self._taken = {path.rpartition(".")[0] for path in manifest["path"]}
        names = manifest[["split", "class", "name"]].itertuples(index=False)
        self._taken.update(
            f"chips/{split}/{label}/{name}" for split, label, name in names
        )

    def add(self, records: Mapping[str, ChipRecord], progress: Progress | None) -> None:
        """Add chips, given by the hash of their pixels."""
        scenes = self._read_scenes()
        same = self._find_same_pixels(records, progress)
        for digest, record in records.items():
            if digest in same:
                self._relabel(same[digest], record, digest)
                continue
            scene = scene_key(record.extra_columns.get("group_key") or "")
            split, key = scenes.get(scene, (record.split, scene or None))
            columns = {**record.extra_columns, "group_key": key}
            record = replace(record, split=split, extra_columns=columns)
            try:
                chip = make_chip(self._rename(record, digest))
            except DataError as error:
                self.result.reject(record, error.message)
                continue
            self.files[chip.row["path"]] = chip.data
            self.rows.append(chip.row)
            self.result.added[split, record.label] += 1

    def _read_scenes(self) -> dict[str, tuple[str, str]]:
        """Return the strictest split and a group key of each scene of the store."""
        scenes: dict[str, tuple[str, str]] = {}
        table = self.manifest[["group_key", "split"]].fillna("").drop_duplicates()
        for key, split in table.itertuples(index=False):
            scene = scene_key(key)
            other, first_key = scenes.get(scene, (split, key))
            scenes[scene] = max(split, other, key=SPLITS.index), first_key
        scenes.pop("", None)
        return scenes

    def _find_same_pixels(
        self, records: Mapping[str, ChipRecord], progress: Progress | None
    ) -> dict[str, list[int]]:
        """Return the rows of the manifest with the pixels of chips, by their hash."""
        same = defaultdict(list)
        paths = self.manifest["path"] if records else ()
        chips = track(paths, len(paths), progress, "comparing chips")
        for row, path in enumerate(chips):
            digest = pixel_digest(read_chip(self.root / path))
            if digest in records:
                same[digest].append(row)
        return same

    def _relabel(self, rows: list[int], record: ChipRecord, digest: str) -> None:
        """Give rows of the manifest the class of a chip."""
        changed = [
            row for row in rows if self.manifest.at[row, "class"] != record.label
        ]
        self.result.unchanged += not changed
        for row in changed:
            cells = self.manifest.loc[row, ["class", "name", "split"]]
            previous, name, split = map(str, cells)
            self.result.relabeled[previous, record.label] += 1
            self.held_out += split != "train"
            renamed = self._rename(replace(record, split=split, name=name), digest)
            values = {"class": record.label, "name": renamed.name}
            for column in PROVENANCE:
                if column in record.extra_columns:
                    values[column] = record.extra_columns[column]
            values["added_previous"] = previous
            self.manifest.loc[row, list(values)] = list(values.values())

    def _rename(self, record: ChipRecord, digest: str) -> ChipRecord:
        """Return a record with a longer name if another chip has its name."""
        if record.path_stem in self._taken:
            record = replace(record, name=f"{record.name}_{digest[:8]}")
        self._taken.add(record.path_stem)
        return record

    def _note(self, manifest: pd.DataFrame) -> None:
        """Note what the labels change for measured accuracies and for the splits."""
        if self.held_out:
            self.result.notes.append(
                f"{self.held_out:,} relabeled chips are in val or test: accuracies"
                " before were of other labels"
            )
        nameless = int((manifest["group_key"].fillna("") == "").sum())
        if self.rows and nameless:
            self.result.notes.append(
                f"{nameless:,} chips do not name their scene, which may have chips in"
                " several splits"
            )

    def commit(self, details: JsonObject, new_classes: Sequence[str]) -> None:
        """Write the new manifest, the new chips and the new description."""
        store = ChipStore.open(self.root)
        manifest = self.manifest
        if self.rows:
            manifest = pd.concat([manifest, pd.DataFrame(self.rows)], ignore_index=True)
        self._note(manifest)
        used = {*manifest["class"]}
        fresh = [
            name
            for name in dict.fromkeys(new_classes)
            if name in used and name not in store.classes
        ]
        classes = [*store.classes, *fresh]
        train = manifest["class"][manifest["split"] == "train"].value_counts()
        counts = {name: int(train.get(name, 0)) for name in classes}
        groups = {group: list(names) for group, names in store.groups.items()}
        # the others stay, so that runs can be compared
        group_of = group_by_class(group_by_count(counts))
        for name in fresh:
            groups.setdefault(group_of[name], []).append(name)
        manifest["group"] = manifest["class"].map(group_by_class(groups))
        dataset = read_dataset(self.root)
        dataset |= {"classes": classes, "groups": groups}
        entry = {**details, **self.result.as_json()}
        dataset[ADDITIONS] = [*dataset.get(ADDITIONS, []), entry]
        self._remove_outdated_files()
        commit_store(self.root, manifest, dataset, self.files)

    def _remove_outdated_files(self) -> None:
        """Remove files that describe the manifest, before another one is committed."""
        commands = {
            AUDIT_FILE: "rsft audit",
            "croissant.json": "rsft data croissant",
        }
        for file, command in commands.items():
            if (self.root / file).exists():
                (self.root / file).unlink()
                self.result.notes.append(
                    f"{file} described the store before: run `{command}` again"
                )


def scene_key(name: str) -> str:
    """Return the name by which a scene is recognized.

    It is the last part of a path or group key, without suffixes.
    """
    return _SUFFIXES.sub("", Path(name.replace("\\", "/")).name)


def _list_rejected(path: Path, table: Path, rejections: Sequence[Rejection]) -> None:
    """Append the rejected rows of a table to rejected.csv.

    Those of an earlier attempt with this table are replaced.
    """
    try:
        text = StringIO(read_regular(path).decode(), newline="")
        _, *rows = filter(None, csv.reader(text))
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"the list of rejected inputs is damaged: {error}",
            path,
            "remove its damaged lines; the first line is file,line,reason",
        ) from error
    kept = [row for row in rows if row[0] != escape_cell(str(table))]
    with atomic_file(path) as temporary:
        write_rejected(temporary, [*kept, *rejections])
