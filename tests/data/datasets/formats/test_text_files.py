"""Files below a folder, their splits, and lines of text files."""

import os
from pathlib import Path

import pytest

from rsft.data.datasets.formats.text_files import (
    find_split,
    iterate_files,
    parse_finite,
    read_text_lines,
)


def test_files_are_found_at_any_depth_without_hidden_ones_and_chip_stores(tmp_path):
    for name in ("a/b/1.txt", ".hidden/2.txt", "a/.3.txt", "store/manifest.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "store/dataset.json").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert list(iterate_files(tmp_path)) == [("a", "b", "1.txt")]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/files").symlink_to(tmp_path / "a/b")
    assert list(iterate_files(tmp_path / "linked")) == [("files", "1.txt")]
    assert list(iterate_files(tmp_path / "absent")) == []


def test_a_broken_link_is_a_file_and_a_locked_folder_an_error(tmp_path, monkeypatch):
    (tmp_path / "link.txt").symlink_to(tmp_path / "absent.txt")
    assert list(iterate_files(tmp_path)) == [("link.txt",)]

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list(iterate_files(tmp_path))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("a/train/images/1.png", "train"),
        ("a/test/Validation/1.png", "val"),
        ("a/1.png", ""),
        ("a/b/train", ""),
    ],
)
def test_the_nearest_folder_names_the_split(path, split):
    assert find_split(Path(path), Path("a")) == split


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf one \r\n\r\n\ttwo")
    assert read_text_lines(tmp_path / "a.txt") == [(1, "one"), (3, "two")]
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_text_lines(tmp_path / "a.txt")


def test_numbers_are_finite():
    texts = ("1.5", "nan", "-inf", "null", "", None)
    assert [parse_finite(text) for text in texts] == [1.5, None, None, None, None, None]
