"""Labelled folders: the three layouts, and what people leave in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rsft.errors import DataError, RequestError
from rsft.sources.folder import read_folder


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root: Path) -> list[tuple[str, str, str]]:
    return [(file.path.relative_to(root).as_posix(), file.label, file.split) for file in read_folder(root).files]


def test_class_folders_at_the_top_all_count_as_train(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a/deep/er/2.PNG", "stray.png")
    touch(tmp_path, "a/notes.txt", "SOURCE.txt", "a/.hidden.png", ".git/x.png")
    assert found(tmp_path) == [("a/deep/er/2.PNG", "a", "train"), ("b/1.jpg", "b", "train")]
    folder = read_folder(tmp_path)
    assert folder.layout == "class folders" and folder.classes == ["a", "b"]
    assert folder.skipped == {"not an image by its name": 3, "image outside the class folders": 1}


def test_split_folders_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "train/10/1.jpg", "train/9/1.jpg", "valid/9/2.jpg", "test/10/3.jpg")
    assert [split for _, _, split in found(tmp_path)] == ["train", "train", "val", "test"]
    assert read_folder(tmp_path).classes == ["9", "10"]


def test_lists_win_and_take_either_slash_bom_and_crlf(tmp_path: Path) -> None:
    touch(tmp_path, "train/0/1.jpg", "train/0/not listed.jpg", "val/1/2.jpg", "with space.jpg")
    (tmp_path / "train.txt").write_bytes("\ufeff0/1.jpg 0\r\n\r\nwith space.jpg\t7\r\n".encode())
    (tmp_path / "val.txt").write_text("1\\2.jpg 1\n")
    expected = [("train/0/1.jpg", "0", "train"), ("with space.jpg", "7", "train"), ("val/1/2.jpg", "1", "val")]
    assert found(tmp_path) == expected


def test_rows_that_cannot_be_used_are_listed_with_their_line(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / "train.txt").write_text("1.jpg 0\nlonely\ngone.jpg 0\n1.jpg 1\n")
    folder = read_folder(tmp_path)
    assert len(folder.files) == 1
    assert [(line, reason) for _, line, reason in folder.rejected] == [
        (2, "a row is `path label`"),
        (3, "there is no file gone.jpg"),
        (4, "1.jpg is listed already, in line 1"),
    ]


def test_nothing_to_read_is_a_faulty_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such folder"):
        read_folder(tmp_path / "absent")
    with pytest.raises(RequestError, match="no labelled image"):
        read_folder(tmp_path)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_folder(tmp_path)


@pytest.mark.realdata
def test_mstar_lists_name_all_its_chips(shared: Callable[[str], Path]) -> None:
    folder = read_folder(shared("mstar_soc10"))
    splits = [file.split for file in folder.files]
    assert folder.layout == "lists" and folder.classes == [str(index) for index in range(10)]
    assert (splits.count("train"), splits.count("val"), folder.rejected) == (2747, 2425, [])
