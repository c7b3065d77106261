import hashlib

import pytest

from rsft.files import replacing, replacing_folder, sha256, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_whole(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "first")
    write_text(tmp_path / "deep" / "a.txt", "second")
    assert (tmp_path / "deep" / "a.txt").read_text() == "second"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_failed_file_leaves_the_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failed_folder_leaves_the_old_one(tmp_path):
    with replacing_folder(tmp_path / "d") as temporary:
        (temporary / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "d") as temporary:
        (temporary / "new").touch()
        _ = 1 / 0
    assert names(tmp_path / "d") == ["old"]
    with replacing_folder(tmp_path / "d") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "d") == ["new"]
    assert names(tmp_path) == ["d"]


def test_suffix_is_kept_and_mode_is_usual(tmp_path):
    with replacing(tmp_path / "a.gpkg") as temporary:
        assert temporary.suffix == ".gpkg"
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.gpkg").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"chips")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"chips").hexdigest()
