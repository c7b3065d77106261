"""`rsft audit`: output, JSON file and exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Rsft = Callable[..., tuple[int, str]]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "v25_train.txt").write_text("L1_1.png 0\nL1_1.png 0\nShip_C07S01N0001.png 0\n")
    (tmp_path / "v25_test.txt").write_text("L1_2.png 0\n")
    return tmp_path


def test_findings_are_shown_and_written(rsft: Rsft, lists: Path) -> None:
    code, printed = rsft("audit", lists, "--json", "findings.json")
    assert code == 0 and "L1_1 (v25_train.txt:2)" in printed and "FUSAR-Ship C07 Other" in printed
    [audit] = json.loads((lists / "findings.json").read_text("utf-8"))
    assert audit["clean"] is False


def test_split_columns_are_shown_if_the_first_classes_have_no_rows(rsft: Rsft, lists: Path) -> None:
    (lists / "v25_train.txt").write_text("L1_1.png 2\n")
    (lists / "v25_test.txt").write_text("L2_1.png 2\n")
    code, printed = rsft("audit", lists)
    [header] = [line for line in printed.splitlines() if "origin" in line]
    assert code == 0 and header.split() == ["class", "origin", "train", "test"]


def test_strict_exits_with_1_if_there_are_findings(rsft: Rsft, lists: Path) -> None:
    assert rsft("audit", lists, "--strict")[0] == 1
    (lists / "v25_train.txt").write_text("L1_1.png 0\n")
    (lists / "v25_test.txt").write_text("L2_1.png 0\n")
    assert rsft("audit", lists, "--strict")[0] == 0


def test_audit_of_a_chip_store_is_written_into_it(rsft: Rsft, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    code, printed = rsft("audit", tmp_path / "copy", "--jobs", "1")
    assert code == 0 and "names in two splits" in printed
    assert (tmp_path / "copy/audit.json").is_file()


def test_audit_of_class_folders_writes_nothing(rsft: Rsft, class_folders: Path) -> None:
    before = sorted(class_folders.rglob("*"))
    code, printed = rsft("audit", class_folders, "--jobs", "1")
    assert code == 0 and "train rows" in printed and sorted(class_folders.rglob("*")) == before


def test_missing_folder_is_refused(rsft: Rsft, tmp_path: Path) -> None:
    code, printed = rsft("audit", tmp_path / "nowhere")
    assert code == 2 and "the folder does not exist" in printed


@pytest.mark.slow
@pytest.mark.realdata
def test_published_lists_have_the_documented_findings(rsft: Rsft, shared: Callable[[str], Path]) -> None:
    code, printed = rsft("audit", shared("fusrs_lists"), "--strict")
    assert code == 1
    for figure in ("864 of 5,261", "151 of 1,700", "101", "131", "218 of 880", "4,397", "1,549", "5,845"):
        assert figure in printed
    assert "other     FUSAR-Ship C01 Cargo" in printed
