"""The lock of a folder: one process at a time, and no file left behind."""

from pathlib import Path

import pytest
from filelock import FileLock

from rsft.errors import RequestError, RsftError
from rsft.utils.atomic_files import process_lock
from tests.helpers.messages import mentions


@pytest.mark.slow
def test_the_file_exists_while_the_block_runs(tmp_path):
    path = tmp_path / "new/lock"
    with process_lock(path, Path("here"), "is busy"):
        assert path.is_file()
        with (
            pytest.raises(RequestError, match="busy"),
            process_lock(path, Path("here"), "is busy"),
        ):
            pass
        assert path.is_file()
    assert list(path.parent.iterdir()) == []
    with pytest.raises(ZeroDivisionError), process_lock(path, Path("here"), "is busy"):
        _ = 1 / 0
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_another_process_holds_the_lock(tmp_path):
    path = tmp_path / "lock"
    with (
        FileLock(path),
        pytest.raises(RequestError, match="busy"),
        process_lock(path, Path("here"), "is busy"),
    ):
        pass
    with process_lock(tmp_path / "lock", Path("here"), "is busy"):
        pass


def test_system_that_cannot_remove_the_file_of_a_held_lock(tmp_path, monkeypatch):
    """On Windows, the release removes it."""

    def denied(*_, **__):
        raise PermissionError

    with (
        monkeypatch.context() as patch,
        process_lock(tmp_path / "lock", Path("here"), "is busy"),
    ):
        patch.setattr(Path, "unlink", denied)
    with process_lock(tmp_path / "lock", Path("here"), "is busy"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    in_the_place = pytest.raises(RsftError, match=mentions("in the place"))
    with (
        in_the_place as caught,
        process_lock(tmp_path / "file/a", Path("here"), "is busy"),
    ):
        pass
    assert caught.value.location == str(tmp_path / "file")
