"""Archives: the good come out whole, the evil leave nothing behind."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from rsft.errors import DataError, RequestError
from rsft.sources.archives import MARKER, extract_archive

FILES = {"a/船 1.txt": b"one", "b.bin": bytes(3_000_000)}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w", special: tarfile.TarInfo | None = None) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if special is not None:
            tar.addfile(special)
    return path


def make_zip(path: Path, files: dict[str, bytes], link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc/passwd")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def special(name: str, kind: bytes, to: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def refused(archive: Path, match: str, **options: int) -> None:
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=match) as error:
        extract_archive(archive, archive.parent / "out", **options)
    assert error.value.where == str(archive) and error.value.fix
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_unpacks_whatever_the_name_says(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "set.dat"
    make_zip(archive, FILES) if mode == "zip" else make_tar(archive, FILES, mode)
    steps: list[tuple[int, int, str]] = []
    out = extract_archive(archive, tmp_path / "new/out", progress=lambda *step: steps.append(step))
    assert content(out) == FILES
    assert steps[-1][0] <= steps[-1][1] and steps[-1][2] == "unpacking set.dat"


def test_a_second_call_does_nothing_and_another_archive_is_refused(tmp_path: Path) -> None:
    archive, out = make_zip(tmp_path / "a.zip", FILES), tmp_path / "out"
    extract_archive(archive, out)
    (out / "b.bin").unlink()
    assert not (extract_archive(archive, out) / "b.bin").exists()
    with pytest.raises(RequestError, match="holds another archive"):
        extract_archive(make_tar(tmp_path / "b.tar", FILES), out)
    (out / MARKER).unlink()
    with pytest.raises(RequestError, match="holds something else"):
        extract_archive(archive, out)
    with pytest.raises(RequestError, match="no such archive"):
        extract_archive(tmp_path / "absent.zip", out)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil", MARKER])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_no_member_leaves_the_target(tmp_path: Path, name: str, make) -> None:
    refused(make(tmp_path / "x", {"good": b"1", name: b"2"}), "would leave the folder")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(make_tar(tmp_path / "x.tar", {"a": b"1"}, special=special("b", kind)), "b is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "x.zip", {"a": b"1"}, link="b"), "b is a link or a device")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_bomb_is_refused(tmp_path: Path, make) -> None:
    refused(make(tmp_path / "x", FILES), "holds more than", max_bytes=2_000_000)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a", "a/b"])
def test_a_member_that_comes_twice_is_refused(tmp_path: Path, second: str) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "1")
        file.writestr(second, "2")
    refused(archive, "comes twice")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: str, share: float) -> None:
    whole, archive = tmp_path / "whole", tmp_path / "cut"
    files = {"a": os.urandom(70_000), "b": os.urandom(70_000)}
    make_zip(whole, files) if mode == "zip" else make_tar(whole, files, mode)
    archive.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    refused(archive, "cut short|no .zip")


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"a": bytes(512), "b": bytes(512)})
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, "cut short")


def test_a_damaged_zip_member_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": os.urandom(9000)})
    data = bytearray(archive.read_bytes())
    data[4000] ^= 255
    archive.write_bytes(data)
    refused(archive, "damaged")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>"])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "no .zip, .tar or .rar")


UNRAR = """#!/bin/sh
if [ "$1" = lt ]; then printf '{listing}'; else mkdir -p "$7/d"; {action}; fi
exit {code}
"""
LISTING = "\\n        Name: d/a b.txt\\n        Type: File\\n        Size: 2\\n Packed size: 2\\n"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, listing: str, action: str, code: int = 0) -> Path:
    """A .rar, and a program that stands in for unrar."""
    archive = folder / "x.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00")
    (folder / "bin").mkdir()
    program = folder / "bin/unrar"
    program.write_text(UNRAR.format(listing=listing, action=action, code=code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return archive


def test_a_rar_goes_through_unrar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = stand_in(tmp_path, monkeypatch, LISTING, 'printf hi > "$7/d/a b.txt"')
    assert content(extract_archive(archive, tmp_path / "out")) == {"d/a b.txt": b"hi"}


@pytest.mark.parametrize(
    ("listing", "action", "code", "match"),
    [
        (LISTING.replace("d/a", "../a"), ":", 0, "would leave the folder"),
        (LISTING.replace("File", "Unix symbolic link"), ":", 0, "link or a device"),
        (LISTING, 'ln -s /etc "$7/d/a"', 0, "link or a device"),
        (LISTING.replace("Size: 2\\n P", "Size: 9999999\\n P"), ":", 0, "holds more than"),
        (LISTING, ":", 3, "unrar gave up"),
    ],
)
def test_an_evil_rar_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str, action: str, code: int, match: str
) -> None:
    refused(stand_in(tmp_path, monkeypatch, listing, action, code), match, max_bytes=1_000_000)


def test_without_unrar_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "x.rar").write_bytes(b"Rar!\x1a\x07\x00")
    refused(tmp_path / "x.rar", "needs the program unrar")
