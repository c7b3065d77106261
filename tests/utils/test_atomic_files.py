import errno
import fcntl
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rsft.utils import atomic_files
from rsft.utils.atomic_files import atomic_file, atomic_folder, sha256, write_text
from tests.helpers.killing import die, die_at, killed


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_whole(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "first")
    write_text(tmp_path / "deep" / "a.txt", "second")
    assert (tmp_path / "deep" / "a.txt").read_text() == "second"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_failed_file_leaves_the_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failed_folder_leaves_the_old_one(tmp_path):
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


def test_suffix_is_kept_and_mode_is_usual(tmp_path):
    with atomic_file(tmp_path / "a.gpkg") as temporary:
        assert temporary.suffix == ".gpkg"
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.gpkg").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"chips")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"chips").hexdigest()


def write_and_die(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        (temporary.parent / "library.lock").touch()
        die()


def write_folder_and_die(path):
    with atomic_folder(path) as temporary:
        write_and_die(temporary / "weights")


@pytest.mark.parametrize("write", [write_and_die, write_folder_and_die])
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, write):
    killed(write, tmp_path / "a.bin")
    assert len(names(tmp_path)) == 1
    write_text(tmp_path / "b.txt", "beside it")
    assert names(tmp_path) == ["b.txt"]


def hold(path, held, go):
    with atomic_file(path) as temporary:
        temporary.unlink()  # as GDAL does: the inode is another one then
        temporary.write_text("slow")
        held.set()
        go.wait(20)


def test_the_temporary_of_a_living_process_stays(tmp_path):
    path, context = tmp_path / "a.txt", multiprocessing.get_context("fork")
    held, go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, held, go))
    process.start()
    assert held.wait(20)
    write_text(path, "quick")
    assert path.read_text() == "quick" and len(names(tmp_path)) == 2
    go.set()
    process.join(20)
    assert process.exitcode == 0 and path.read_text() == "slow"
    assert names(tmp_path) == ["a.txt"]


def test_two_writers_in_one_process(tmp_path):
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("outer")
        write_text(tmp_path / "a.txt", "inner")
    assert (tmp_path / "a.txt").read_text() == "outer"


def make_folder(path, name):
    with atomic_folder(path) as temporary:
        (temporary / name).touch()


def replace_and_die(path, call):
    die_at(Path, "replace", call)
    make_folder(path, "new")


def test_a_folder_that_was_being_replaced_is_put_back(tmp_path, caplog):
    make_folder(tmp_path / "d", "old")
    killed(replace_and_die, tmp_path / "d", 2)
    assert not (tmp_path / "d").exists()
    write_text(tmp_path / "beside.txt", "")
    assert names(tmp_path) == ["beside.txt", "d"] and names(tmp_path / "d") == ["old"]
    assert "restored; a process was stopped" in caplog.text


def test_a_folder_that_was_being_replaced_gives_way_to_the_next(tmp_path):
    make_folder(tmp_path / "d", "old")
    for call in (1, 2):
        killed(replace_and_die, tmp_path / "d", call)
    make_folder(tmp_path / "d", "newer")
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["newer"]


def test_a_fault_between_the_renames_leaves_the_old_one(tmp_path):
    make_folder(tmp_path / "d", "old")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "d") as temporary:
        temporary.rmdir()
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["old"]


def remove_and_die(path):
    die_at(shutil, "rmtree")
    make_folder(path, "new")


def test_killed_before_the_old_one_is_removed(tmp_path):
    make_folder(tmp_path / "d", "old")
    killed(remove_and_die, tmp_path / "d")
    write_text(tmp_path / "beside.txt", "")
    assert names(tmp_path) == ["beside.txt", "d"] and names(tmp_path / "d") == ["new"]


def test_a_folder_that_is_cleared_away_before_it_is_held(tmp_path, monkeypatch):
    real, seen = atomic_files.fcntl.flock, []

    def late(handle, how):
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].rmdir()  # as another process would
        real(handle, how)

    monkeypatch.setattr(atomic_files.fcntl, "flock", late)
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"] and len(seen) == 1


def test_without_locks_nothing_is_cleared_away(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    killed(write_and_die, tmp_path / "a.bin")
    monkeypatch.setattr(fcntl, "flock", unknown)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole" and len(names(tmp_path)) == 2


def test_a_system_without_flock(tmp_path):
    """As on Windows, which cannot open a folder either."""
    code = """
import sys, tempfile, shutil, logging, hashlib, pathlib
sys.modules["fcntl"], sys.platform = None, "win32"
from rsft.utils.atomic_files import atomic_folder, sync_all, write_text
place = pathlib.Path(sys.argv[1])
for word in ("one", "two"):
    write_text(place / "a.txt", word)
    with atomic_folder(place / "folder") as new:
        (new / "b.txt").write_text(word)
sync_all()
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert names(tmp_path) == ["a.txt", "folder"]
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "folder" / "b.txt").read_text() == "two"
