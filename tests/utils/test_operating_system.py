"""What differs between Windows, macOS and Linux, with a fake of the platform."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from platform import machine, processor
from types import SimpleNamespace

import pytest

from rsft.utils import operating_system
from rsft.utils.operating_system import (
    describe_name_fault,
    describe_path_fault,
    limit_address_space,
    link_file,
    multiplies_bfloat16,
    processor_name,
    replace_path,
    sync_path,
    unique_name,
    watch_memory,
)
from rsft.utils.write_errors import explain_os_error


@pytest.fixture
def on(monkeypatch):
    """Return a function that sets the platform."""
    return lambda name: monkeypatch.setattr(
        operating_system, "sys", SimpleNamespace(platform=name)
    )


@pytest.mark.parametrize(
    "name", ["aux", "CON.tif", "a:b", "a?", "name.", "name ", "lpt1.csv"]
)
def test_names_that_only_windows_refuses(on, name):
    for platform, is_refused in (("linux", False), ("darwin", False), ("win32", True)):
        on(platform)
        assert (repr(name) in describe_name_fault(name)) == is_refused


def test_names_of_one_file(on):
    pairs = [("Cargo", "cargo"), ("Stra\u00dfe", "STRASSE"), ("e\u0301", "\u00e9")]
    for platform, is_one in (("linux", False), ("darwin", True), ("win32", True)):
        on(platform)
        assert all((unique_name(a) == unique_name(b)) == is_one for a, b in pairs)


def test_long_paths_and_names_are_explained_on_windows(on):
    long = "/".join(["folder"] * 50)
    on("linux")
    assert describe_path_fault(long) is None
    assert "permission denied" in str(
        explain_os_error(PermissionError(errno.EACCES, "x", "map.gpkg"))
    )
    on("win32")
    assert "259 characters" in str(
        explain_os_error(FileNotFoundError(errno.ENOENT, "x", long))
    )
    assert "Windows cannot hold the name 'a?b'" in str(
        explain_os_error(OSError(errno.EINVAL, "x", "a/a?b"))
    )
    assert "another program has the file open" in str(
        explain_os_error(PermissionError(errno.EACCES, "x", "map.gpkg"))
    )


def test_a_file_that_another_program_opens_for_a_moment(on, tmp_path, monkeypatch):
    replace = Path.replace
    attempts = []

    def fail_twice(source, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(errno.EACCES, "in use", str(target))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", fail_twice)
    for platform, count in (("linux", 1), ("win32", 3)):
        on(platform), attempts.clear(), (tmp_path / "a").write_text(platform)
        if platform == "linux":
            with pytest.raises(PermissionError):
                replace_path(tmp_path / "a", tmp_path / "b")
        else:
            replace_path(tmp_path / "a", tmp_path / "b")
            assert (tmp_path / "b").read_text() == platform
        assert len(attempts) == count
    # no test waits until a process is killed
    monkeypatch.setattr(operating_system, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(
        Path,
        "replace",
        lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "in use")),
    )
    with pytest.raises(PermissionError):
        replace_path(tmp_path / "b", tmp_path / "c")


def test_links_where_windows_permits_none(on, tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    monkeypatch.setattr(
        Path,
        "symlink_to",
        lambda *_: (_ for _ in ()).throw(OSError(1314, "no privilege")),
    )
    on("linux")
    with pytest.raises(OSError, match="no privilege"):
        link_file(tmp_path / "b", tmp_path / "a")
    on("win32")
    link_file(tmp_path / "b", tmp_path / "a")
    assert (tmp_path / "b").read_text() == "a" and not (tmp_path / "b").is_symlink()


def test_windows_cannot_open_folders(on, tmp_path, monkeypatch):
    on("win32")
    monkeypatch.setattr(os, "open", None)
    sync_path(tmp_path)


def test_macos_refuses_a_limit_of_addresses(on, monkeypatch):
    monkeypatch.setattr(
        resource,
        "setrlimit",
        lambda *_: (_ for _ in ()).throw(ValueError("current limit exceeds")),
    )
    for platform in ("darwin", "win32"):
        on(platform)
        assert not limit_address_space(2**32)


def test_memory_is_watched_where_it_cannot_be_limited(on):
    code = (
        "import sys; data = bytearray(2**28); print(len(data), flush=True);"
        " sys.stdin.read()"
    )
    for platform, size, is_killed in (
        ("darwin", 2**27, True),
        ("darwin", 2**32, False),
        ("linux", 2**27, False),
    ):
        on(platform)
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=-1, stdout=-1
        ) as process:
            process.stdout.readline()
            if not is_killed:
                process.stdin.close()
            watch_memory(process, size)
        assert (process.wait() != 0) == is_killed


def test_a_driver_of_a_gpu(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    assert operating_system.has_gpu_driver()

    def fail(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", fail)
    assert not operating_system.has_gpu_driver()
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/kfd")
    assert operating_system.has_gpu_driver()


@pytest.mark.parametrize(
    ("text", "name", "has_bfloat16"),
    [
        ("model name\t: Fast 9\nflags\t: fpu amx_bf16 ht\n", "Fast 9", True),
        ("model name\t: Slow 1\nflags\t: fpu bf16x ht\n", "Slow 1", False),
        (None, processor() or machine(), False),
    ],
)
def test_the_processor(text, name, has_bfloat16, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    # the file of this machine has other processors
    monkeypatch.setattr(operating_system, "_PROCESSORS", path)
    if text is not None:
        path.write_text(text)
    assert processor_name() == name
    assert multiplies_bfloat16() == has_bfloat16
