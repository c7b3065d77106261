"""A link in a named folder is followed only to what is named as well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.utils.cell import named


def test_links_of_named_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "OFF", False)
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "in/inner.png").symlink_to("a.png")
    outer = tmp_path / "in/outer.png"
    outer.symlink_to(tmp_path / "out/a.png")
    monkeypatch.setenv(named.SETTING, json.dumps([[str(tmp_path / "in")], False]))
    named.check_link(tmp_path / "in/inner.png")
    named.check_link(tmp_path / "out/a.png")
    with pytest.raises(RequestError) as raised:
        named.check_link(outer)
    assert str(tmp_path / "out") in raised.value.hint
    monkeypatch.setenv(named.SETTING, "")
    named.check_link(outer)


def test_many_paths_stand_in_a_file(tmp_path, monkeypatch):
    """Programs do not start with a variable of the environment that is too long."""
    monkeypatch.setattr(named, "OFF", False)
    monkeypatch.setenv(named.SETTING, "")
    monkeypatch.setattr(named.atexit, "register", lambda *_: None)
    paths = [str(tmp_path / f"folder_{number}") for number in range(20_000)]
    named.write_setting(paths, True)
    file = Path(os.environ[named.SETTING])
    assert file.stat().st_mode & 0o077 == 0
    assert named.read_setting(str(file)) == (paths, True)
    subprocess.run([sys.executable, "-c", ""], check=True)
    (tmp_path / "folder_9").mkdir()
    outer = tmp_path / "folder_9/outer.png"
    (tmp_path / "a.png").touch()
    outer.symlink_to(tmp_path / "a.png")
    with pytest.raises(RequestError):
        named.check_link(outer)
    file.unlink()


def test_the_file_of_many_paths_is_removed_at_the_end():
    code = (
        "from rsft.utils.cell import named; named.write_setting(['a' * 40_000], False);"
        " import os; print(os.environ[named.SETTING])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert not Path(done.stdout.strip()).exists()
