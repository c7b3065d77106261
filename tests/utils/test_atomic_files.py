import errno
import fcntl
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from rsft.errors import RequestError
from rsft.utils import atomic_files
from rsft.utils.atomic_files import (
    atomic_file,
    atomic_folder,
    check_is_free,
    remove_work_folder,
    work_folder,
    write_json,
    write_text,
)
from rsft.utils.write_errors import TEMPORARY_PREFIX
from tests.helpers.killing import kill_at_call, kill_this_process, run_until_killed


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_whole(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "first")
    write_text(tmp_path / "deep" / "a.txt", "second")
    assert (tmp_path / "deep" / "a.txt").read_text() == "second"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_json_has_lines(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, "ü"]})
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n "a": [\n  1,\n  "\\u00fc"\n ]\n}'


def test_failed_write_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failed_write_keeps_the_old_folder(tmp_path):
    with atomic_folder(tmp_path / "d") as temporary:
        (temporary / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "d") as temporary:
        (temporary / "new").touch()
        _ = 1 / 0
    assert names(tmp_path / "d") == ["old"]
    with atomic_folder(tmp_path / "d") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "d") == ["new"]
    assert names(tmp_path) == ["d"]


def test_temporary_file_has_the_suffix_and_the_result_has_the_default_mode(tmp_path):
    with atomic_file(tmp_path / "a.gpkg") as temporary:
        assert temporary.suffix == ".gpkg"
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.gpkg").stat().st_mode == (tmp_path / "plain").stat().st_mode


def write_and_die(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        (temporary.parent / "library.lock").touch()
        kill_this_process()


def write_folder_and_die(path):
    with atomic_folder(path) as temporary:
        write_and_die(temporary / "weights")


@pytest.mark.parametrize("write", [write_and_die, write_folder_and_die])
def test_temporary_files_of_a_killed_process_are_removed_by_the_next_write(
    tmp_path, write
):
    run_until_killed(write, tmp_path / "a.bin")
    assert len(names(tmp_path)) == 1
    write_text(tmp_path / "b.txt", "beside it")
    assert names(tmp_path) == ["b.txt"]


def test_a_command_that_finds_its_output_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / f"{TEMPORARY_PREFIX}1").mkdir()
    (tmp_path / "a.bin").touch()
    check_is_free(tmp_path / "b.bin", False)
    assert len(names(tmp_path)) == 2
    with pytest.raises(RequestError, match="exists already"):
        check_is_free(tmp_path / "a.bin", False)
    assert names(tmp_path) == ["a.bin"]


def write_slowly(path, started, proceed):
    with atomic_file(path) as temporary:
        temporary.unlink()  # GDAL does so, which changes the inode
        temporary.write_text("slow")
        started.set()
        proceed.wait(20)


def test_temporary_file_of_a_live_process_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    context = multiprocessing.get_context("fork")
    started = context.Event()
    proceed = context.Event()
    process = context.Process(target=write_slowly, args=(path, started, proceed))
    process.start()
    assert started.wait(20)
    write_text(path, "quick")
    assert path.read_text() == "quick" and len(names(tmp_path)) == 2
    proceed.set()
    process.join(20)
    assert process.exitcode == 0 and path.read_text() == "slow"
    assert names(tmp_path) == ["a.txt"]


def test_nested_writes_in_one_process(tmp_path):
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("outer")
        write_text(tmp_path / "a.txt", "inner")
    assert (tmp_path / "a.txt").read_text() == "outer"


def make_folder(path, name):
    with atomic_folder(path) as temporary:
        (temporary / name).touch()


def replace_and_die(path, call):
    kill_at_call(Path, "replace", call)
    make_folder(path, "new")


def test_old_folder_is_restored_after_a_kill_between_the_renames(tmp_path, caplog):
    make_folder(tmp_path / "d", "old")
    run_until_killed(replace_and_die, tmp_path / "d", 2)
    assert not (tmp_path / "d").exists()
    write_text(tmp_path / "beside.txt", "")
    assert names(tmp_path) == ["beside.txt", "d"] and names(tmp_path / "d") == ["old"]
    assert "restored; a process was stopped" in caplog.text


def test_error_between_the_renames_keeps_the_old_folder(tmp_path):
    make_folder(tmp_path / "d", "old")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "d") as temporary:
        temporary.rmdir()
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["old"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_temporary_folder_that_is_removed_before_it_is_locked(
    tmp_path, monkeypatch, moment
):
    """Another process could remove the folder before its lock file is opened, or just
    before the file is locked."""
    real = FileLock.acquire
    seen = []

    def late(lock, *args, **kwargs):
        if moment == "after":
            real(lock, *args, **kwargs)
        if not seen:
            seen.extend(tmp_path.iterdir())
            shutil.rmtree(seen[0])
        if moment == "before":
            real(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", late)
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"] and len(seen) == 1


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_no_temporary_folder_is_removed(tmp_path, monkeypatch, code):
    def unknown(*_):
        raise OSError(code, os.strerror(code))

    run_until_killed(write_and_die, tmp_path / "a.bin")
    monkeypatch.setattr(fcntl, "flock", unknown)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole" and len(names(tmp_path)) == 2


def test_folder_that_another_process_is_about_to_lock_is_removed_safely(tmp_path):
    # killed between the two steps
    (tmp_path / f"{atomic_files.TEMPORARY_PREFIX}new").mkdir()
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]


def write_often(path, count):
    for number in range(count):
        write_text(path, str(number))


@pytest.mark.slow
def test_many_processes_write_beside_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=write_often, args=(tmp_path / f"{number}", 50))
        for number in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{number}": "49" for number in range(6)
    }


def test_system_without_flock(tmp_path):
    """Windows has no flock and cannot open folders; there, filelock uses other
    locks."""
    code = """
import os, pathlib, stat, sys, types
sys.modules["fcntl"] = None
from rsft.utils import operating_system
from rsft.utils.atomic_files import atomic_folder, write_text
from rsft.utils.operating_system import sync_all
operating_system.sys, synced = types.SimpleNamespace(platform="win32"), []
os.fsync = lambda handle: synced.append(stat.S_ISREG(os.fstat(handle).st_mode))
folder = pathlib.Path(sys.argv[1])
for word in ("one", "two"):
    write_text(folder / "a.txt", word)
    with atomic_folder(folder / "folder") as new:
        (new / "b.txt").write_text(word)
sync_all()
assert all(synced) and len(synced) == 2, synced
"""
    subprocess.run(
        [sys.executable, "-W", "ignore:only soft file lock", "-c", code, tmp_path],
        check=True,
    )
    assert names(tmp_path) == ["a.txt", "folder"]
    assert (
        (tmp_path / "a.txt").read_text()
        == (tmp_path / "folder" / "b.txt").read_text()
        == "two"
    )


def test_a_work_folder_stays_until_its_job_is_done(tmp_path):
    folder = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt), work_folder(folder, "one") as build:
        (build / "a.txt").touch()
        raise KeyboardInterrupt
    with work_folder(folder, "one") as build:
        assert names(build) == ["a.txt"] and names(tmp_path) == ["work", "work.lock"]
        remove_work_folder(folder)  # it is in use
        assert names(build) == ["a.txt"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("remains", [["work"], ["work.lock"], ["work", "work.lock"]])
def test_what_a_killed_job_leaves_is_removed(tmp_path, remains):
    for name in remains:
        (tmp_path / name).mkdir() if name == "work" else (tmp_path / name).touch()
    remove_work_folder(tmp_path / "work")
    assert names(tmp_path) == []
