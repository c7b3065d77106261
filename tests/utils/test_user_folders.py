"""Libraries get folders that they can write, also where the home is unknown, read-only
or hidden."""

import logging
import os
import stat
import tempfile
from pathlib import Path

import pytest

from rsft.utils.user_folders import set_user_folders, weights_dir

VARIABLES = {"HOME", "USERPROFILE", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Give the user an empty home and, elsewhere, a folder for temporary files; restore
    the environment afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    monkeypatch.setattr(
        os, "environ", kept | {"HOME": str(folder), "USERPROFILE": str(folder)}
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return folder


@pytest.fixture
def temporary(tmp_path):
    """Return the folder of this user for temporary files."""
    return tmp_path / f"temporary/rsft-{os.getuid()}"


@pytest.fixture
def lock(monkeypatch):
    """Return a function that lets nobody write below a folder, which permissions alone
    do not do for root."""
    locked: list[Path] = []

    def is_allowed(path, mode, access=os.access):
        is_locked = mode & os.W_OK and any(
            Path(path).is_relative_to(folder) for folder in locked
        )
        return not is_locked and access(path, mode)

    monkeypatch.setattr(os, "access", is_allowed)
    return locked.append


def variables():
    return {
        name: value
        for name, value in os.environ.items()
        if name in VARIABLES - {"HOME", "USERPROFILE"}
    }


def test_an_empty_home_stays_empty_until_a_library_writes_there(home, caplog):
    set_user_folders()
    assert variables() == {"MPLCONFIGDIR": str(home / ".cache/rsft/matplotlib")}
    assert not list(home.iterdir()) and not caplog.records


def test_settings_of_the_user_stay(home):
    (home / ".config/matplotlib").mkdir(parents=True)
    set_user_folders()
    assert variables() == {}


def test_a_variable_of_the_user_stays(tmp_path):
    os.environ["MPLCONFIGDIR"] = str(tmp_path / "chosen")
    set_user_folders()
    assert variables() == {"MPLCONFIGDIR": str(tmp_path / "chosen")}


def test_a_temporary_folder_takes_the_place_of_an_unknown_home(
    monkeypatch, temporary, caplog
):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    set_user_folders()
    assert os.environ["HOME"] == os.environ["USERPROFILE"] == str(temporary)
    assert variables() == {"MPLCONFIGDIR": str(temporary / ".cache/rsft/matplotlib")}
    assert caplog.messages == [
        f"HOME is not set, and this user has no home: {temporary} takes its place"
    ]
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700


def test_caches_of_a_read_only_home_are_in_a_temporary_folder(
    home, temporary, lock, caplog
):
    (home / ".config/matplotlib").mkdir(parents=True)
    lock(home)
    set_user_folders()
    assert os.environ["HOME"] == str(home)  # credentials and settings are read there
    cache = temporary / "cache"
    assert variables() == {
        "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache / "rsft/matplotlib"),
    }
    assert caplog.messages == [
        f"{home / '.cache/rsft'} cannot be written: caches are in {cache}"
    ]
    set_user_folders()  # as a command does that another command starts
    assert len(caplog.messages) == 1


def test_a_home_below_a_file_is_no_home(home, temporary):
    (home / "file").write_text("")
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(home / "file/home")
    set_user_folders()
    assert os.environ["XDG_CACHE_HOME"] == str(temporary / "cache")


@pytest.mark.parametrize("fault", ["writable for others", "link", "file"])
def test_a_temporary_folder_that_others_may_write_is_not_used(
    fault, home, lock, temporary, tmp_path
):
    lock(home)
    if fault == "link":
        temporary.symlink_to(tmp_path)
    elif fault == "file":
        temporary.write_text("")
    else:
        temporary.mkdir()
        temporary.chmod(0o777)
    set_user_folders()
    folder = Path(os.environ["XDG_CACHE_HOME"]).parent
    assert (
        folder.parent == temporary.parent
        and folder.name.startswith("rsft-")
        and folder != temporary
    )


def test_the_list_of_fonts_is_made_in_silence():
    set_user_folders()
    assert logging.getLogger("matplotlib.font_manager").level == logging.ERROR


def test_the_folder_of_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    assert weights_dir() == tmp_path
    monkeypatch.delenv("RSFT_WEIGHTS")
    assert weights_dir().parts[-2:] == ("rsft", "weights")
