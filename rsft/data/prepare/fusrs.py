"""FUSRS v2 from FUSAR-Ship and SRSDD: row for row as published, or clean."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from rsft.data.audit.findings import AUDIT, write_audits
from rsft.data.audit.store_audit import audit_store
from rsft.data.chips.builder import Plan, build_store, check_free
from rsft.data.chips.store import DATASET, ChipStore
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import CLASSES, HEAD, TAIL, fetch_lists, read_lists
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.prepare.fusrs_protocols import Rows, clean_rows, published_rows
from rsft.errors import RequestError
from rsft.types import Progress
from rsft.utils.archives.source_tree import unpacked

Protocol = Literal["clean", "published"]

TEST_SHARE = 0.25
"""Of each class in the clean split; that of the published lists is 1,700 of 6,961."""
VAL_SHARES = {"clean": 0.1, "published": 0.0}

Source = TypeVar("Source", FUSARShip, SRSDD)


def prepare_fusrs(
    root: Path,
    *,
    fusar: Path | None = None,
    srsdd: Path | None = None,
    protocol: Protocol = "clean",
    lists: Path | None = None,
    classes: int = 4,
    val: float | None = None,
    seed: int = 0,
    jobs: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChipStore:
    """Build the chip store `root` and leave its audit in audit.json.

    Args:
        fusar, srsdd: folder or archive; where None, it is looked for by content in the folders beside `root` and raw/.
        protocol: "published" has the authors' rows, splits and labels, a repeated row as a chip of its own; "clean" the
            archives' categories, each content once, and no SRSDD image or FUSAR-Ship vessel in two splits.
        lists: folder of the authors' lists; where None, they are downloaded to fusrs_lists/ beside `root`.
        val: share of each class for validation, in "published" of the training rows; VAL_SHARES where None.

    Raises:
        RequestError: `root` is taken, a source is not found or not the only one, or an argument is out of range.
        DataError: a source or list that cannot be used, or no way to download the lists.
    """
    check_free(root, overwrite)
    val = VAL_SHARES[protocol] if val is None else val
    _check(classes, val, protocol, lists)
    fusar = fusar or _look_for(FUSARShip, lambda source: len(source) > 0, "--fusar", root)
    srsdd = srsdd or _look_for(SRSDD, lambda source: len(source.ships) > 0, "--srsdd", root)
    if protocol == "published":
        lists = lists or fetch_lists(root.resolve().parent / "fusrs_lists", classes, progress)
    options = {"root": root, "fusar": fusar, "srsdd": srsdd, "protocol": protocol, "lists": lists, "classes": classes}
    command = _command(options | {"val": f"{val:g}", "seed": seed})
    with (
        unpacked(fusar, _beside(root, "fusar"), progress) as fusar_folder,
        unpacked(srsdd, _beside(root, "srsdd"), progress) as srsdd_folder,
    ):
        ships, scenes = FUSARShip(fusar_folder), SRSDD(srsdd_folder)
        if lists is not None:
            rows = published_rows(ships, scenes, *read_lists(lists, classes), CLASSES[classes], val, seed)
        else:
            shares = {"train": 1 - val - TEST_SHARE, "val": val, "test": TEST_SHARE}
            rows = clean_rows(ships, scenes, CLASSES[classes], shares, seed, jobs)
        plan = _plan(rows, ships, scenes, protocol, classes, command)
        store = build_store(root, rows.records, plan, overwrite=overwrite, progress=progress, jobs=jobs)
    write_audits(root / AUDIT, [audit_store(store, jobs=jobs, progress=progress)])
    return store


def _check(classes: int, val: float, protocol: Protocol, lists: Path | None) -> None:
    if lists is not None and protocol != "published":
        raise RequestError(f"{protocol} takes no lists", "--lists", "leave them out, or add --protocol published")
    if not 0 <= val <= 0.5:
        raise RequestError(f"a validation share of {val:g}", "--val", "give a share from 0 to 0.5")
    if classes not in CLASSES:
        raise RequestError(f"{classes} classes", "--classes", "give 4 or 5")


def _command(options: Mapping[str, object]) -> str:
    given = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
    return shlex.join(["rsft", "prepare", "fusrs", *(word for pair in given for word in pair)])


def _plan(rows: Rows, fusar: FUSARShip, srsdd: SRSDD, protocol: str, classes: int, command: str) -> Plan:
    names = CLASSES[classes]
    groups = {"head": [name for name in names if name in HEAD], "medium": []}
    return Plan(
        name=f"FUSRS v2, {protocol}, {classes} classes",
        classes=names,
        command=command,
        groups=groups | {"tail": [name for name in names if name in TAIL]},
        skipped=rows.skipped + fusar.skipped + srsdd.skipped,
        rejected=[*rows.rejected, *fusar.rejected, *srsdd.rejected],
    )


def _beside(root: Path, source: str) -> Path:
    return root.with_name(f"{root.name}-{source}")


def _look_for(kind: type[Source], holds: Callable[[Source], bool], option: str, root: Path) -> Path:
    """The one folder beside `root`, or in raw/ there, that `kind` can read.

    Raises:
        RequestError: there is none, or more than one.
    """
    beside = root.resolve().parent
    found = [
        folder
        for parent in (beside, beside / "raw")
        if parent.is_dir()
        for folder in sorted(parent.iterdir())
        if _may_be_source(folder, root) and _can_read(kind, holds, folder)
    ]
    if len(found) != 1:
        what = f"{len(found)} folders could be it: {', '.join(map(str, found))}" if found else "it is not there"
        raise RequestError(f"{kind.__name__}: {what}", f"{beside}, {beside / 'raw'}", f"name its folder with {option}")
    return found[0]


def _may_be_source(folder: Path, root: Path) -> bool:
    usual = folder.is_dir() and not folder.name.startswith(".") and folder.name != "raw"
    return usual and folder != root.resolve() and not (folder / DATASET).exists()


def _can_read(kind: type[Source], holds: Callable[[Source], bool], folder: Path) -> bool:
    try:
        return holds(kind(folder))
    except RequestError:
        return False
