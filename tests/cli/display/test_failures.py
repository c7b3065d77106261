import errno
import json
import sqlite3
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyogrio.errors
import pytest
import rasterio.errors
import shapely
from pyproj.exceptions import CRSError
from safetensors import SafetensorError

from rsft.cli import build_app, main
from rsft.cli.display.failures import CRASH_EXIT_CODE, explain
from rsft.errors import DataError


def _fail(as_json=False):
    from rsft.cli.display.failures import quiet_console

    with quiet_console(False, as_json):
        raise FAULTS[-1]


FAULTS: list[Exception] = []


@pytest.fixture(autouse=True)
def command(monkeypatch):
    app = build_app("doctor")
    app.command("fail", hidden=True)(_fail)
    monkeypatch.setattr("rsft.cli.build_app", lambda command: app)


@pytest.fixture
def fail(rsft, monkeypatch, tmp_path):
    """Run a command that raises an exception."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def run(error, *arguments):
        FAULTS.append(error)
        return rsft("fail", *arguments)

    return run


EXPECTED = {
    "the memory is full": MemoryError(),
    "the memory is full\nwhere: Unable to allocate 12.1 GiB": (
        np._core._exceptions._ArrayMemoryError((114_000, 114_000), np.dtype("u1"))
    ),
    "DefaultCPUAllocator": RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    ),
    "nested too deeply": RecursionError("maximum recursion depth exceeded"),
    "a name cannot be written as UTF-8": UnicodeEncodeError(
        "utf-8", "a\udcff.png", 1, 2, "surrogates not allowed"
    ),
    "a text file is not UTF-8": UnicodeDecodeError(
        "utf-8", b"\xff", 0, 1, "invalid start byte"
    ),
    "the disk is full": OSError(errno.ENOSPC, "No space left on device", "out.csv"),
    "too many files are open": OSError(errno.EMFILE, "Too many open files"),
    "permission denied": PermissionError(errno.EACCES, "Permission denied", "x"),
    "the name of the file is too long": OSError(
        errno.ENAMETOOLONG, "File name too long", "x" * 300
    ),
    "database or disk is full": sqlite3.OperationalError("database or disk is full"),
    "Failed to commit transaction": pyogrio.errors.DataSourceError(
        "Failed to commit transaction"
    ),
    "Invalid dataset": rasterio.errors.RasterioIOError("Invalid dataset"),
    "a shape is not valid": shapely.errors.GEOSException(
        "IllegalArgumentException: 1 point"
    ),
    "a coordinate system is not valid": CRSError("Invalid projection"),
    "a weights file cannot be read": SafetensorError(
        "Error while deserializing header"
    ),
    "a JSON file is damaged": json.JSONDecodeError("Expecting value", "x", 0),
}


@pytest.mark.parametrize("words", EXPECTED)
def test_exceptions_of_libraries_become_sentences(words, fail, tmp_path):
    code, printed = fail(EXPECTED[words])
    assert code == 1
    assert words in printed and "hint:" in printed and "Traceback" not in printed
    assert list((tmp_path / "temporary").iterdir()) == []


def test_unknown_exceptions_leave_a_crash_file(fail, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_USER", "hunter2")
    code, printed = fail(KeyError("odd"), "--no-as-json")
    assert code == CRASH_EXIT_CODE == 70
    (crash_file,) = (tmp_path / "temporary").iterdir()
    assert (
        "rsft has a fault: KeyError: 'odd'" in printed
        and str(crash_file) in printed
        and "Traceback" not in printed
    )
    text = crash_file.read_text()
    assert (
        "command: rsft fail --no-as-json" in text
        and "Traceback" in text
        and "KeyError: 'odd'" in text
    )
    assert "torch " in text and "hunter2" not in text
    assert crash_file.stat().st_mode & 0o77 == 0


def test_no_room_for_the_crash_file(fail, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    # also root cannot make it
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file/temporary"))
    code, printed = fail(KeyError("odd"))
    assert code == 70 and "--debug" in printed


def test_debug_raises(monkeypatch):
    FAULTS.append(KeyError("odd"))
    monkeypatch.setattr(sys, "argv", ["rsft", "fail", "--debug"])
    with pytest.raises(KeyError, match="odd"):
        main()


def test_json_events_say_the_same(fail):
    code, printed = fail(
        sqlite3.OperationalError("database or disk is full"), "--as-json"
    )
    event = json.loads(printed.splitlines()[0])
    assert code == 1 and event["event"] == "error"
    assert (
        event["message"]
        == "a database cannot be read or written: database or disk is full"
    )
    code, printed = fail(KeyError("odd"), "--as-json")
    assert (
        code == 70
        and json.loads(printed.splitlines()[0])["message"] == "KeyError: 'odd'"
    )


def test_errors_of_rsft_are_unchanged():
    error = DataError("a", Path("b"), "c")
    assert explain(error) is error
    assert explain(ValueError("a")) is None


def test_a_package_that_was_left_out_is_named():
    assert (
        explain(ModuleNotFoundError("x", name="no_such_package.part")).message
        == "no_such_package is not installed"
    )
    for name in ("rsft.no_such_module", "numpy.no_such_module", None):  # faults
        assert explain(ModuleNotFoundError("x", name=name)) is None
