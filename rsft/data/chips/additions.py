"""Add labeled chips to a finished store.

New chips join it; chips that it has already get the new class.

A chip is recognized by its pixels, whatever the format of its file. A killed process
leaves no mixture: the new manifest gets its name in one step, and this step decides.
Before it, readers see the old store, after it the new one. Before it, the description
of the new store waits in dataset.json beside the old one, with the hash of the manifest
that it belongs to and the names of the new chips.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips import store as layout
from rsft.data.chips.builder import write_chip
from rsft.data.chips.record import (
    HEAD_COUNT,
    StoreDescription,
    group_by_count,
    head_limit,
)
from rsft.data.chips.sidecars import (
    render_class_figure,
    render_contact_sheet,
    render_readme,
    select_sheet_chips,
)
from rsft.data.chips.store import (
    PROVENANCE,
    ROW_GROUP,
    ChipStore,
    check_chip_path,
    read_dataset,
    read_manifest,
)
from rsft.data.imagery.reader import open_image, read_chip
from rsft.data.similarity import pixel_digest
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.atomic_files import process_lock, sha256, write_bytes, write_text
from rsft.utils.operating_system import sync_all
from rsft.utils.tables import escape_cell
from rsft.utils.untrusted.documents import read_regular
from rsft.utils.write_errors import explain_os_error
from rsft.version import __version__


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

    def conflict() -> RequestError:
        return RequestError(
            "another process is changing this store",
            root,
            "wait until it has finished, or stop it",
        )

    try:
        with process_lock(root.parent / f".{root.name}.lock", conflict):
            _settle(root)
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
    dataset: Mapping[str, Any],
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
    table = manifest.sort_values("path", kind="stable").reset_index(drop=True)
    # columns that rsft does not know stay
    types = {field.name: field.type for field in layout.SCHEMA} | PROVENANCE
    names = dict.fromkeys([*layout.SCHEMA.names, *table.columns])
    with BytesIO() as out:
        pq.write_table(
            pa.table({name: pa.array(table[name], types.get(name)) for name in names}),
            out,
            row_group_size=ROW_GROUP,
        )
        data = out.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    current, _ = layout.read_pending_change(root)
    pending = {
        "manifest_sha256": digest,
        "files": sorted(files),
        layout.DATASET: dict(dataset),
    }
    _write_json(root / layout.DATASET, current | {layout.PENDING: pending})
    for path, content in files.items():
        write_chip(str(root / path), content)
    sync_all()  # the chips must be on the disk before the manifest names them
    write_bytes(root / layout.MANIFEST, data)
    _write_json(root / layout.DATASET, dataset)


def _settle(root: Path) -> None:
    """Finish or undo the change of a process that was killed."""
    dataset, change = layout.read_pending_change(root)
    if change is None:
        return
    if change.manifest_sha256 == sha256(root / layout.MANIFEST):
        _write_json(root / layout.DATASET, change.description)
        return
    for path in set(change.files) - set(read_manifest(root)["path"]):
        # only chips are deleted, because a store may come from somebody else
        with suppress(ValueError):
            check_chip_path(path)
            file = root / path
            if (
                path.startswith("chips/")
                and file.is_file()
                and file.parent.resolve().is_relative_to(root)
            ):
                file.unlink()
    _write_json(root / layout.DATASET, dataset)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def find_same_pixels(
    root: Path,
    manifest: pd.DataFrame,
    digests: Mapping[str, tuple[int, ...]],
    progress: Progress | None = None,
) -> dict[str, list[int]]:
    """Find the chips of a store that have the pixels of other chips.

    Only chips of the same size are decoded.

    Args:
        root: folder of the store.
        manifest: its manifest.
        digests: shape (H, W, B) of the other chips, by the hash of their pixels.
        progress: called after each chip.

    Returns:
        Positions of rows in the manifest, by the hash of the pixels.

    Raises:
        DataError: a chip of the store cannot be read.
    """
    sizes = {shape[:2] for shape in digests.values()}
    same = dict[str, list[int]]()
    for row, path in enumerate(manifest["path"] if sizes else ()):
        try:
            with open_image(root / path) as image:
                may_be_same = (image.height, image.width) in sizes
        except DataError:  # Pillow cannot tell
            may_be_same = True
        if may_be_same:
            digest = pixel_digest(read_chip(root / path))
            if digest in digests:
                same.setdefault(digest, []).append(row)
        if progress is not None:
            progress(row + 1, len(manifest), "comparing chips")
    return same


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
        shape: height, width and number of bands.
        digest: hash of its pixels, see `pixel_digest`.
        scene: name of its scene; "" if it is unknown.
        split: split in which it belongs if its scene is not in the store.
        columns: further columns of the manifest, such as unit, spacing_m and those in
            `PROVENANCE`.
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
        relabeled: number of chips that were in the store with another class, by old and
            new class.
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


def add_chips(
    root: Path,
    chips: Sequence[LabeledChip],
    *,
    table: Path,
    record: Mapping[str, Any],
    new_classes: Sequence[str] = (),
    rejected: Sequence[Rejection] = (),
    progress: Progress | None = None,
) -> AdditionResult:
    """Add labeled chips to a store, all or none of them.

    A chip whose pixels are in the store is not stored again: it gets the new class, and
    stays in its split. Chips of a scene of which the store has chips join their split;
    other scenes go to the split that the chip names. Classes and their groups stay; new
    classes come last.

    Args:
        root: folder of the store.
        chips: the chips; all have a class of the store or one of `new_classes`.
        table: the table with the labels.
        record: description of the addition in dataset.json, such as the date and the
            SHA-256 of the bundle.
        new_classes: names of classes that the store may get.
        rejected: rows of the table that could not be read.
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
        same = find_same_pixels(
            root, manifest, {chip.digest: chip.shape for chip in chips}, progress
        )
        result = AdditionResult(rejected=list(rejected))
        fresh = _relabel(manifest, same, _distinct(chips, table, result), result)
        rows, files = _make_rows(manifest, fresh, result)
        if result.added or result.relabeled:
            dataset = read_dataset(root)
            if rows:
                changed = pd.concat([manifest, pd.DataFrame(rows)], ignore_index=True)
            else:
                changed = manifest
            used = set(changed["class"])
            classes = list(
                dict.fromkeys(
                    [*store.classes, *(name for name in new_classes if name in used)]
                )
            )
            train = changed["class"][changed["split"] == "train"].value_counts()
            counts = {name: int(train.get(name, 0)) for name in classes}
            added = {
                name: count
                for name, count in counts.items()
                if name not in store.classes
            }
            if store.groups.get("head"):
                limit = head_limit(counts)
            else:
                limit = HEAD_COUNT
            groups = {group: list(names) for group, names in store.groups.items()}
            # the others stay, so that runs can be compared
            for group, names in group_by_count(added, limit).items():
                groups.setdefault(group, []).extend(names)
            changed["group"] = changed["class"].map(
                {name: group for group, names in groups.items() for name in names}
            )
            dataset |= {"classes": classes, "groups": groups}
            dataset[ADDITIONS] = [
                *dataset.get(ADDITIONS, []),
                {**record, **_describe(result)},
            ]
            for file, command in (
                (layout.AUDIT_FILE, "rsft audit"),
                ("croissant.json", "rsft data croissant"),
            ):
                # before the commit, because they must not describe another manifest
                if (root / file).exists():
                    (root / file).unlink()
                    result.notes.append(
                        f"{file} described the store before: run `{command}` again"
                    )
            commit_store(root, changed, dataset, files)
        _write_rejected(root / layout.REJECTED, table, result.rejected)
        _refresh_sidecars(
            root, {chip.label for chip in chips} | {old for old, _ in result.relabeled}
        )
    return result


def _distinct(
    chips: Sequence[LabeledChip], table: Path, result: AdditionResult
) -> list[LabeledChip]:
    """Return the first chip of each content.

    Repeated rows are counted, and those that contradict are rejected.
    """
    firsts: dict[str, LabeledChip] = {}
    for chip in chips:
        first = firsts.setdefault(chip.digest, chip)
        if first is chip:
            continue
        if first.label == chip.label:
            result.repeated += 1
        else:
            reason = (
                f"the same chip is {first.label} in line {first.line}, and {chip.label}"
                " here"
            )
            result.rejected.append((str(table), chip.line, reason))
    return list(firsts.values())


def _relabel(
    manifest: pd.DataFrame,
    same: Mapping[str, list[int]],
    chips: Sequence[LabeledChip],
    result: AdditionResult,
) -> list[LabeledChip]:
    """Give rows of the manifest their new class, in place.

    Returns the chips that the store does not have.
    """
    for name in PROVENANCE:
        if name not in manifest:
            manifest[name] = pd.Series(None, manifest.index, object)
    columns = {
        name: manifest[name].to_numpy(object, copy=True)
        for name in ("class", "name", *PROVENANCE)
    }
    fresh = []
    held_out = 0
    for chip in chips:
        rows = same.get(chip.digest, [])
        if not rows:
            fresh.append(chip)
        changed = [row for row in rows if columns["class"][row] != chip.label]
        result.unchanged += bool(rows) and not changed
        for row in changed:
            previous = str(columns["class"][row])
            result.relabeled[previous, chip.label] += 1
            name = _free_name(
                manifest,
                str(manifest["split"].iloc[row]),
                chip,
                str(columns["name"][row]),
            )
            values = {"class": chip.label, "name": name, "added_previous": previous}
            values |= {
                key: value for key, value in chip.columns.items() if key in PROVENANCE
            }
            for key, value in values.items():
                columns[key][row] = value
            held_out += manifest["split"].iloc[row] != "train"
    if held_out:
        result.notes.append(
            f"{held_out:,} relabeled chips are in val or test: accuracies before were"
            " of other labels"
        )
    for name, cells in columns.items():
        manifest[name] = pd.Series(cells, manifest.index, object)
    return fresh


def _free_name(manifest: pd.DataFrame, split: str, chip: LabeledChip, name: str) -> str:
    """Return `name`, or a longer one if another chip of the split and class has it."""
    taken = (
        (manifest["split"] == split)
        & (manifest["class"] == chip.label)
        & (manifest["name"] == name)
    )
    if taken.any():
        return f"{name}_{chip.digest[:8]}"
    return name


def _make_rows(
    manifest: pd.DataFrame, chips: Sequence[LabeledChip], result: AdditionResult
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return the manifest rows and the files of new chips."""
    splits: dict[str, str] = {}  # of each scene of the store
    keys: dict[str, str] = {}
    is_nameless = manifest["group_key"].fillna("") == ""
    for key, split in (
        manifest.loc[~is_nameless, ["group_key", "split"]]
        .drop_duplicates()
        .itertuples(index=False)
    ):
        scene = scene_key(key)
        keys.setdefault(scene, key)
        splits[scene] = min(splits.get(scene, split), split, key=_STRICTEST_FIRST.index)
    rows = []
    files = {}
    paths = set(manifest["path"])
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
        row = {
            "name": name,
            "path": path,
            "split": split,
            "class": chip.label,
            "flags": "",
        }
        rows.append(
            row | {"group_key": keys.get(scene, scene or None)} | dict(chip.columns)
        )
        result.added[split, chip.label] += 1
    nameless = sum(not chip.scene for chip in chips)
    if nameless:
        result.notes.append(
            f"{nameless:,} new chips do not name their scene, so their split may not"
            " suit it"
        )
    stored = int(is_nameless.sum())
    if stored and not all(is_known for _, is_known in result.splits.values()):
        result.notes.append(
            f"{stored:,} chips of the store do not name their scene: it may be one of"
            " the new scenes"
        )
    return rows, files


def scene_key(name: str) -> str:
    """Return the name by which a scene is recognized.

    It is the last part of a path or group key, without suffix.
    """
    stem = Path(name.replace("\\", "/")).name
    for suffix in (
        ".zip",
        ".SAFE",
        ".tif",
        ".tiff",
        ".img",
        ".jp2",
        ".png",
        ".json",
        ".nc",
        ".h5",
        ".ntf",
        ".vrt",
    ):
        if stem.lower().endswith(suffix.lower()):
            stem = stem[: -len(suffix)]
        else:
            stem = stem
    return stem


def _describe(result: AdditionResult) -> dict[str, Any]:
    """Return what the entry of an addition in dataset.json says of its chips."""
    return {
        "added": [
            {"split": x, "class": name, "chips": count}
            for (x, name), count in sorted(result.added.items())
        ],
        "relabeled": [
            {"from": x, "to": y, "chips": count}
            for (x, y), count in sorted(result.relabeled.items())
        ],
        "rejected": len(result.rejected),
        "rsft_version": __version__,
    }


def _write_rejected(path: Path, table: Path, rejections: Sequence[Rejection]) -> None:
    """Append the rejected rows of a table.

    Those of an earlier attempt with this table are replaced.
    """
    try:
        header, *rows = [
            row
            for row in csv.reader(StringIO(read_regular(path).decode(), newline=""))
            if row
        ]
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"the list of rejected inputs is damaged: {error}",
            path,
            "remove its damaged lines; the first line is file,line,reason",
        ) from error
    kept = [row for row in rows if row[0] != escape_cell(str(table))]
    new_rows = [
        *kept,
        *([str(escape_cell(value)) for value in rejection] for rejection in rejections),
    ]
    if new_rows == rows:
        return
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *new_rows])
    write_text(path, text.getvalue())


def _refresh_sidecars(root: Path, labels: set[str]) -> None:
    """Write README.md, the class figure, and some contact sheets again."""
    store = ChipStore.open(root)
    dataset = read_dataset(root)
    group_of = {name: group for group, names in store.groups.items() for name in names}
    counts = store.counts
    flags = Counter(
        flag
        for flags in store.table["flags"].dropna()
        for flag in flags.split(",")
        if flag
    )
    command = dataset.get("command", "")
    description = StoreDescription(
        store.name, store.classes, command, skipped=store.skipped, license=store.license
    )
    additions = []  # such as "2026-11-26: 12 chips from corrected.csv, 1 relabeled"
    for record in dataset.get(ADDITIONS, []):
        added = sum(item["chips"] for item in record["added"])
        relabeled = sum(item["chips"] for item in record["relabeled"])
        additions.append(
            f"{record['date'][:10]}: {added:,} chips from {record['table']},"
            f" {relabeled:,} relabeled"
        )
    write_text(
        root / layout.README,
        render_readme(description, counts, group_of, flags, store.rejected, additions),
    )
    write_bytes(
        root / layout.CLASS_FIGURE, render_class_figure(store.name, counts, group_of)
    )
    for label in sorted(labels):
        paths = [
            root / path for path in store.table["path"][store.table["class"] == label]
        ]
        if paths:
            sheet = render_contact_sheet(
                [paths[number] for number in select_sheet_chips(len(paths))]
            )
            write_bytes(root / layout.CONTACT_SHEETS / f"{label}.png", sheet)
