"""Marked functions run in the open cell."""

import json
import os
import subprocess
import sys
from pathlib import Path

from rsft.utils.cell import client
from rsft.utils.cell.client import allow_reading, in_cell, is_inside, open_cell
from tests.helpers.style import ROOT


@in_cell
def where():
    return os.getpid(), is_inside()


def test_marked_functions_run_in_the_open_cell(monkeypatch):
    # another test may have opened one
    monkeypatch.setattr(client, "_cell", None)
    monkeypatch.delenv("RSFT_CELL", raising=False)
    assert where() == (os.getpid(), False)
    monkeypatch.setenv("RSFT_CELL", "")
    open_cell([ROOT / "tests"])
    process, inside = where()
    assert process != os.getpid() and inside
    client.current_cell().close()


def test_named_paths_do_not_depend_on_the_working_folder(monkeypatch, tmp_path):
    """A worker of a Python process that changed its folder begins in the first one."""
    monkeypatch.setattr(client, "_cell", None)
    monkeypatch.setenv("RSFT_CELL", "")
    monkeypatch.chdir(tmp_path)
    open_cell([Path("store")])
    paths, _ = json.loads(os.environ["RSFT_CELL"])
    assert paths == [str(Path.cwd() / "store")]


def test_a_folder_that_may_be_read_is_allowed_once(monkeypatch, tmp_path):
    """A process that opens many stores would pass all of their names on."""
    monkeypatch.setattr(client, "_cell", None)
    monkeypatch.setenv("RSFT_CELL", "")
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "named"
    open_cell([named])
    for folder in (named / "store", Path("made"), Path("made"), Path("made/chips")):
        allow_reading(folder)
    paths, _ = json.loads(os.environ["RSFT_CELL"])
    assert paths == [str(named), str(tmp_path / "made")]
    client.current_cell().close()


def test_modules_of_readers_load_no_library_that_writes():
    """PyTorch and Matplotlib need a folder for their caches, which a cell lacks."""
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / "rsft").rglob("*.py")
        if "\n@in_cell\n" in path.read_text("utf-8")
    ]
    assert len(modules) > 10
    code = "import sys, importlib\nfor name in sys.argv[1:]:\n"
    code += "    importlib.import_module(name)\n"
    code += "    assert not {'torch', 'matplotlib'} & sys.modules.keys(), name"
    command = [sys.executable, "-c", code, *modules]
    subprocess.run(command, cwd=ROOT, check=True)
