"""The authors' lists: rows, labels, line numbers and invalid rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rsft.data.datasets import fusrs
from rsft.data.datasets.fusar_ship import CATEGORIES
from rsft.data.datasets.fusrs import (
    CLASSES,
    FUSAR_CLASSES,
    FUSAR_OTHER,
    LIST_CHECKSUMS,
    download_fusrs_lists,
    read_fusrs_list,
    read_fusrs_lists,
)
from rsft.errors import DataError, RequestError
from rsft.utils.atomic_files import sha256


def test_rows_keep_their_lines_and_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffShip_C07S11N0002.png 0\r\n\r\nL12_3.png 3\r\nShip_C07S11N0002.png 0\r\n".encode())
    rows, rejected = read_fusrs_list(path, "train", 4)
    assert [(row.name, row.label, row.line) for row in rows] == [
        ("Ship_C07S11N0002", 0, 1),
        ("L12_3", 3, 3),
        ("Ship_C07S11N0002", 0, 4),
    ]
    assert [(row.category, row.image) for row in rows[:2]] == [(7, None), (None, 12)] and rejected == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("L1_1.png", "1 fields"),
        ("L1_1.png 0 0", "3 fields"),
        ("L1_1.png 4", "label 4"),
        ("L1_1.png -1", "label -1"),
        ("L1_1.png ²", "label ²"),
        ("ship.png 0", "ship.png is neither"),
        ("L1.png 0", "L1.png is neither"),
    ],
)
def test_invalid_row_is_rejected_with_its_line(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"L1_1.png 0\n{row}\n", "utf-8")
    rows, rejected = read_fusrs_list(path, "test", 4)
    assert len(rows) == 1
    [(file, line, why)] = rejected
    assert (file, line) == (str(path), 2) and reason in why


def test_missing_or_empty_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"v25_train\.txt is missing"):
        read_fusrs_lists(tmp_path, 4)
    (tmp_path / "v25_train.txt").write_text("nonsense\n")
    with pytest.raises(DataError, match="no row of the list can be used"):
        read_fusrs_lists(tmp_path, 4)


def test_existing_lists_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []
    monkeypatch.setattr(
        fusrs, "download", lambda url, target, checksum, progress: downloads.append((url, target, checksum))
    )
    download_fusrs_lists(tmp_path, 5)
    assert [(url.rsplit("/", 1)[1], target.parent) for url, target, _ in downloads] == [
        ("v17_train.txt", tmp_path),
        ("v17_test.txt", tmp_path),
    ]
    assert all(checksum == LIST_CHECKSUMS[target.name] for _, target, checksum in downloads)


def test_every_category_is_mapped_or_unknown() -> None:
    assert set(CATEGORIES) - set(FUSAR_CLASSES) - set(FUSAR_OTHER) == {"Reserved", "Unspecified"}


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("classes", "train", "test"),
    [
        (4, {"cargo": 3890, "fishing": 814, "tanker": 315, "dredger": 242}, 1700),
        (5, {"cargo": 3890, "other": 1710, "fishing": 814, "tanker": 315, "dredger": 242}, 2129),
    ],
)
def test_the_published_lists(shared: Callable[[str], Path], classes: int, train: dict[str, int], test: int) -> None:
    folder = shared("fusrs_lists")
    rows, rejected = read_fusrs_lists(folder, classes)
    counts = Counter(CLASSES[classes][row.label] for row in rows if row.split == "train")
    assert counts == train and len(rows) - counts.total() == test and rejected == []
    assert all(sha256(folder / name) == checksum for name, checksum in LIST_CHECKSUMS.items())
