"""Folders with archives: all are extracted once, and the source folder is never written
to."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from rsft.data.prepare.dota import prepare_dota
from rsft.errors import DataError, RequestError, RsftError
from rsft.utils import archives, source_tree
from rsft.utils.source_tree import open_source_tree
from tests.data.datasets.dota.data import row, write_pair
from tests.helpers.archive_files import make_rar, make_tar, make_zip
from tests.helpers.killing import kill_at_call, kill_this_process, run_until_killed


def listing(folder):
    """Return file contents by path."""
    paths = (
        Path(folder_path, name)
        for folder_path, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def src(tmp_path):
    """Two archives at two depths, files beside them, and a linked folder."""
    root = tmp_path / "来源 1"
    (root / "train/images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far.txt").write_bytes(b"far")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train/images/loose.png").write_bytes(b"loose")
    (root / ".DS_Store").write_bytes(b"hidden")
    make_zip(root / "train/images/part1.ZIP", {"images/P1.png": b"one"})
    make_tar(root / "labels.v1.tar.gz", {"P1.txt": b"label"}, "w:gz")
    return root


WANTED = {
    "linked/far.txt": b"far",
    "train/images/loose.png": b"loose",
    "train/images/part1/images/P1.png": b"one",
    "labels.v1/P1.txt": b"label",
}


def test_a_folder_of_archives(src, tmp_path):
    before = {path: path.lstat().st_mtime_ns for path in [src, *src.rglob("*")]}
    with open_source_tree(src, tmp_path / "data/out") as folder:
        assert listing(folder) == WANTED
        assert (folder / "train/images/loose.png").is_symlink() and not (
            folder / "train"
        ).is_symlink()
    assert list((tmp_path / "data").iterdir()) == []
    assert {path: path.lstat().st_mtime_ns for path in [src, *src.rglob("*")]} == before


def test_without_archives_the_folder_is_yielded(tmp_path):
    (tmp_path / "src/zip").mkdir(parents=True)
    for name in ("a.png", ".zip", ".hidden.zip", "zip/weights.pt"):
        (tmp_path / "src" / name).touch()
    for src in (tmp_path / "src", tmp_path / "absent"):
        with open_source_tree(src, tmp_path / "data/out") as folder:
            assert folder == src and not (tmp_path / "data").exists()


def test_existing_names_are_kept(tmp_path):
    src = tmp_path / "src"
    (src / "a").mkdir(parents=True)
    (src / "a/x").write_bytes(b"plain")
    make_zip(src / "a.zip", {"y": b"zip"})
    make_tar(src / "a.tar", {"z": b"tar"})
    make_tar(src / "b.tar", {"z": b"tar"})
    make_zip(src / "b.zip", {"y": b"zip"})
    with open_source_tree(src, tmp_path / "out") as folder:
        expected = {
            "a/x": b"plain",
            "a.zip/y": b"zip",
            "a.tar/z": b"tar",
            "b/z": b"tar",
            "b.zip/y": b"zip",
        }
        assert listing(folder) == expected


@pytest.mark.parametrize("location", [".", "part"])
def test_extracted_archive_is_not_extracted_again(tmp_path, location, caplog):
    src = tmp_path / "src"
    files = {"d/a": b"one", "b": b"two"}
    src.mkdir()
    archive = make_tar(src / "part.tgz", files, "w:gz")
    for name, data in files.items():
        path = src / location / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with open_source_tree(src, tmp_path / "out") as folder:
        assert folder == src
    assert f"{archive} is not extracted" in caplog.text
    path.write_bytes(b"half a file")
    with open_source_tree(src, tmp_path / "out") as folder:
        extracted = listing(folder).keys() - listing(src).keys()
        assert folder != src and extracted in (
            {"part/d/a", "part/b"},
            {"part.tgz/d/a", "part.tgz/b"},
        )


def test_a_rar_beside_its_folder_needs_no_unrar(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "src").mkdir()
    make_rar(
        tmp_path / "src/FUSAR.rar", {"a/": b"", "a/b.tif": b"hi"}, is_compressed=True
    )
    src = tmp_path / "src"
    out = tmp_path / "out"
    with (
        pytest.raises(DataError, match="needs the program unrar"),
        open_source_tree(src, out),
    ):
        pass
    (src / "FUSAR/a").mkdir(parents=True)
    (src / "FUSAR/a/b.tif").write_bytes(b"HI")
    with open_source_tree(src, out) as folder:
        assert folder == src


def test_file_that_is_not_an_archive_is_reported(src, tmp_path):
    (src / "part2.zip").write_bytes(b"<html>not found</html>")
    with (
        pytest.raises(DataError, match=r"not a \.zip") as error,
        open_source_tree(src, tmp_path / "data/out"),
    ):
        pass
    assert (
        error.value.location == str(src / "part2.zip")
        and list((tmp_path / "data").iterdir()) == []
    )


def open_and_die(src, root):
    with open_source_tree(src, root):
        kill_this_process()


def open_until(owner, name, call, src, root):
    kill_at_call(owner, name, call)
    open_and_die(src, root)


MOMENTS = [
    (Path, "symlink_to", 2),
    (source_tree, "extract_archive", 1),
    (archives, "_write_member", 2),
]


@pytest.mark.parametrize(("owner", "name", "call"), MOMENTS)
def test_killed_and_run_again(src, tmp_path, owner, name, call):
    """The next build removes the files of a killed one and begins again."""
    root = tmp_path / "data/out"
    run_until_killed(open_until, owner, name, call, src, root)
    with open_source_tree(src, root) as folder:
        assert listing(folder) == WANTED
    assert list(root.parent.iterdir()) == []


def test_nothing_stays_after_a_fault_of_the_disk(src, tmp_path, monkeypatch):
    root = tmp_path / "data/out"
    with (
        monkeypatch.context() as patch,
        pytest.raises(RsftError, match="supports links"),
    ):
        patch.setattr(Path, "symlink_to", lambda *_: os.link("absent", "absent too"))
        with open_source_tree(src, root):
            pass
    assert list(root.parent.iterdir()) == []


@pytest.mark.slow
def test_files_of_another_build_are_removed(src, tmp_path):
    root = tmp_path / "data/out"
    archive = make_zip(tmp_path / "a.zip", {"x": b"1"})
    (tmp_path / "plain").mkdir()
    run_until_killed(open_and_die, src, root)
    with open_source_tree(archive, root) as folder:
        assert listing(folder) == {"x": b"1"}
    run_until_killed(open_and_die, archive, root)
    with open_source_tree(tmp_path / "plain", root) as folder:
        assert (
            folder == tmp_path / "plain"
            and not (root.parent / ".out.unpacked").exists()
        )
    assert list(root.parent.iterdir()) == []


@pytest.mark.slow
def test_second_build_is_refused(src, tmp_path):
    conflict = pytest.raises(RequestError, match="another process")
    with (
        FileLock(tmp_path / ".out.unpacked.lock"),
        conflict,
        open_source_tree(src, tmp_path / "out"),
    ):
        pass


@pytest.mark.slow
def test_dota_as_torchgeo_downloads_it(tmp_path):
    src = tmp_path / "src"
    for version, category in (("1.0", "ship"), ("1.5", "plane")):
        labels = row(10, 10, 30, 20, category)
        write_pair(
            tmp_path / version / "train",
            labels,
            labels_in=f"annotations/version{version}",
        )
    src.mkdir()
    for version, part in (
        ("1.0", "images"),
        ("1.0", "annotations"),
        ("1.5", "annotations"),
    ):
        name = src / f"dotav{version}_{part}_train"
        shutil.make_archive(str(name), "gztar", tmp_path / version, f"train/{part}")
    for version, category in (("1.0", "ship"), ("1.5", "plane")):
        store = prepare_dota(src, tmp_path / f"out{version}", version=version, jobs=1)
        assert store.table["class"].tolist() == [category]
