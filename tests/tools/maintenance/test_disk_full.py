import os
import subprocess
import sys

import pytest

from tools.maintenance.disk_full import DiskResult, small_disk, try_job, visible_files


@pytest.fixture
def work(tmp_path):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk is not permitted")
    try:
        with small_disk(tmp_path / "disk", 1 << 20):
            pass
    except subprocess.CalledProcessError:
        pytest.skip("mounting a small disk is not permitted")
    return tmp_path


@pytest.mark.slow
def test_a_store_on_a_disk_that_is_too_small(work, class_folders):
    command = ["prepare", "folder", str(class_folders), "--root", "{disk}/store"]
    (result,) = try_job("prepare", command, work, [0.5])
    assert result.passed and result.code == 1
    assert (
        result.sentence.startswith("error: the disk is full")
        and "run the same command again" in result.sentence
    )
    assert result.row().endswith("| none | 0, equal |")


def test_a_job_that_fails_with_room_is_an_error(work):
    with pytest.raises(RuntimeError, match="prepare: 2"):
        try_job(
            "prepare",
            ["prepare", "folder", "nowhere", "--root", "{disk}/store"],
            work,
            [0.5],
        )


def test_what_passes():
    fields = {
        "job": "x",
        "size": 1,
        "code": 1,
        "sentence": "error: full",
        "damaged": [],
        "again": 0,
        "equal": True,
    }
    assert DiskResult(**fields).passed
    for change in (
        {"sentence": "TRACEBACK"},
        {"code": 2},
        {"damaged": ["a"]},
        {"again": 2},
        {"equal": False},
    ):
        assert not DiskResult(**fields | change).passed


def test_work_files_are_not_visible(tmp_path):
    for name in (
        "out.csv",
        ".out.csv.journal",
        ".rsft-tmp-x/new/a",
        "runs/r/001/run.json",
        "runs/r/001/bundle/b.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert visible_files(tmp_path) == {"out.csv": 1, "runs/r/001/bundle/b.json": 1}
