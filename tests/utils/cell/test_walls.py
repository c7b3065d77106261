"""What the process of a reader cell can no longer do."""

import os
import platform
import socket
import sys
from contextlib import ExitStack

import pytest

from rsft.utils.cell.processes import ReaderCell
from rsft.utils.cell.walls import Walls, describe_walls, landlock_version
from tests.helpers.style import ROOT
from tests.utils.cell import probes

NEEDS_WALLS = pytest.mark.skipif(
    landlock_version() < 6 or platform.machine() != "x86_64",
    reason="the kernel has no walls, or the numbers of the probes are others",
)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Servers, and a folder that the cell may read beside one that it may not."""
    folder = tmp_path_factory.mktemp("walls")
    for name in ("in", "out"):
        (folder / name).mkdir()
        (folder / name / "a").write_text(name)
    path = str(folder / "s")
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (path, "\0rsft-probe"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        yield {
            "named": str(folder / "in/a"),
            "secret": str(folder / "out/a"),
            "parent": os.getpid(),
            "port": server.getsockname()[1],
            "socket": path,
            "abstract": "\0rsft-probe",
        }


@pytest.fixture(scope="module")
def cell(targets):
    cell = ReaderCell(Walls((ROOT / "tests", _folder(targets)), 2**33), 60)
    yield cell
    cell.close()


def _folder(targets):
    from pathlib import Path

    return Path(targets["named"]).parent


@NEEDS_WALLS
@pytest.mark.parametrize("action", probes.ACTIONS)
def test_a_cell_only_reads_what_is_named(cell, targets, action):
    assert cell.call(probes.attempt, action, targets)
    assert cell.call(probes.read, targets["named"]) == "in"


@NEEDS_WALLS
def test_what_a_cell_still_can(cell, targets):
    assert cell.call(probes.use_thread) == 45
    assert cell.call(os.listdir, _folder(targets)) == ["a"]
    variables = cell.call(dict, cell.call(probes.environment))
    assert variables.keys() & {"HOME", "PYTHONPATH"} and "PATH" not in variables


def test_the_secret_is_there_without_walls(targets, monkeypatch):
    """Else the test above would prove nothing."""
    monkeypatch.setenv("RSFT_FENCE", "off")
    open_cell = ReaderCell(Walls((), 2**33), 60)
    assert open_cell.call(probes.attempt, "read outside", targets) == ""
    assert open_cell.call(probes.attempt, "TCP", targets) == ""
    open_cell.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the walls are those of Linux")
def test_the_walls_have_names():
    assert "limits of memory" in describe_walls()
