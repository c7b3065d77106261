"""Audit the authors' lists of FUSRS v2: repeated rows, leaks and renamed classes, found without the images.

python -m tools.reproduction.list_audit LISTS
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from torchvision.datasets.utils import check_integrity

from rsft.cli.data import show_audit
from rsft.data.audit import AuditFinding, AuditResult, count_finding, write_audits
from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES
from rsft.data.datasets.formats.fusrs_classes import CLASSES, FUSAR_TO_FUSRS
from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS, FUSRSListRow, read_fusrs_list
from rsft.data.datasets.source_errors import translate_dataset_errors
from rsft.errors import RequestError
from rsft.types import Rejection
from tools.errors import explained_errors

CATEGORIES = FUSAR_CATEGORIES


def main(
    lists: Annotated[Path, typer.Argument(help="Folder of the authors' lists.")],
    json: Annotated[
        Path | None, typer.Option(help="JSON file for the findings.")
    ] = None,
) -> None:
    """Show the findings of each pair of training and test list."""
    audits = audit_fusrs_lists(lists)
    for result in audits:
        show_audit(result)
    if json is not None:
        write_audits(json, audits)


def audit_fusrs_lists(folder: Path) -> list[AuditResult]:
    """Audit each pair of training and test list in a folder.

    Args:
        folder: folder of the lists.

    Returns:
        One result per pair, the lists of four classes first.

    Raises:
        RequestError: the folder has no list, or one list of a pair is missing.
        DataError: a list cannot be read or has no usable row.
    """
    present = [
        classes
        for classes, version in LIST_VERSIONS.items()
        if any(
            (folder / f"{version}_{split}.txt").is_file() for split in ("train", "test")
        )
    ]
    if not present:
        raise RequestError(
            "no list of FUSRS v2 in the folder",
            folder,
            f"it should contain {', '.join(FUSRS.md5s)}",
        )
    return [_audit_pair(folder, classes) for classes in present]


def _audit_pair(folder: Path, classes: int) -> AuditResult:
    rows: list[FUSRSListRow] = []
    rejected: list[Rejection] = []
    for split in FUSRS.splits:
        path = folder / f"{LIST_VERSIONS[classes]}_{split}.txt"
        if not path.is_file():
            raise RequestError(
                f"{path.name} is missing",
                folder,
                "give the folder of the authors' lists",
            )
        with translate_dataset_errors(
            "the list", path, "copy or download the list again"
        ):
            list_rows, faults = read_fusrs_list(path, split, classes)
        rows = rows + list_rows
        rejected = rejected + faults
    train = [row for row in rows if row.split == "train"]
    test = [row for row in rows if row.split == "test"]
    files = [train[0].file, test[0].file]
    train_names = {row.name for row in train}
    test_names = {row.name for row in test}
    totals: dict[str, int | str] = {
        "training rows": len(train),
        "test rows": len(test),
        "distinct training names": len(train_names),
        "distinct test names": len(test_names),
        "distinct names in all": len(train_names | test_names),
        "SRSDD images": len({row.image for row in rows} - {None}),
        "files as published": (
            "yes"
            if all(check_integrity(path, FUSRS.md5s[path.name]) for path in files)
            else "no"
        ),
    }
    findings = _find_faults(train, test, CLASSES[classes], rejected)
    subject = f"{LIST_VERSIONS[classes]}, {classes} classes, {folder}"
    return AuditResult(
        subject, totals, findings, _count_origins(rows, CLASSES[classes])
    )


def _find_faults(
    train: list[FUSRSListRow],
    test: list[FUSRSListRow],
    classes: tuple[str, ...],
    rejected: list[Rejection],
) -> list[AuditFinding]:
    rows = train + test
    train_names = {row.name for row in train}
    shared_images = {row.image for row in train} & {row.image for row in test} - {None}
    srsdd_test = [row for row in test if row.image is not None]
    labels_by_name: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        labels_by_name[row.name].add(row.label)
    expected_classes = [
        (row, FUSAR_TO_FUSRS.get(CATEGORIES[row.category - 1]))
        for row in rows
        if row.category is not None and 0 < row.category <= len(CATEGORIES)
    ]
    contradictions = [
        row for row, expected in expected_classes if expected != classes[row.label]
    ]
    sorted_images = sorted(shared_images, key=lambda image: image or 0)
    return [
        count_finding(
            "training rows that repeat a name", _repeated_rows(train), len(train)
        ),
        count_finding("test rows that repeat a name", _repeated_rows(test), len(test)),
        count_finding(
            "names in both splits",
            dict.fromkeys(row.name for row in test if row.name in train_names),
        ),
        count_finding(
            "SRSDD images in both splits", (f"L{image}" for image in sorted_images)
        ),
        count_finding(
            "SRSDD test chips of an image seen in training",
            (row.name for row in srsdd_test if row.image in shared_images),
            len(srsdd_test),
        ),
        count_finding(
            "names with two labels",
            (name for name, labels in labels_by_name.items() if len(labels) > 1),
        ),
        count_finding(
            "FUSAR-Ship rows whose class contradicts their category",
            (row.name for row in contradictions),
            len(expected_classes),
        ),
        count_finding(
            "rows that cannot be parsed",
            (f"{Path(file).name}:{line}: {reason}" for file, line, reason in rejected),
        ),
    ]


def _repeated_rows(rows: list[FUSRSListRow]) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            yield f"{row.name} ({row.file.name}:{row.line})"
        seen.add(row.name)


def _count_origins(
    rows: list[FUSRSListRow], classes: tuple[str, ...]
) -> dict[str, dict[str, dict[str, int]]]:
    """Count rows by class, by origin (FUSAR-Ship category or SRSDD) and by split."""
    counts = Counter((row.label, _origin(row), row.split) for row in rows)
    tables: dict[str, dict[str, dict[str, int]]] = {name: {} for name in classes}
    for (label, origin, split), count in sorted(
        counts.items(), key=lambda item: (item[0][1], item[0][2] == "test")
    ):
        tables[classes[label]].setdefault(origin, {"train": 0, "test": 0})[split] = (
            count
        )
    return tables


def _origin(row: FUSRSListRow) -> str:
    if row.category is None:
        return "SRSDD"
    is_valid = 0 < row.category <= len(CATEGORIES)
    return (
        f"FUSAR-Ship C{row.category:02}"
        f" {CATEGORIES[row.category - 1] if is_valid else 'unknown'}"
    )


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
