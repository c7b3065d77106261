"""Extraction of valid, damaged and malicious archives, and resumed extraction."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from rsft.errors import DataError, RequestError, RsftError
from rsft.utils.archives import extract
from rsft.utils.archives.extract import ORIGIN_FILE, extract_archive
from tests.helpers.killing import kill_at_call, run_until_killed

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
        if path.is_file() and path.name != ORIGIN_FILE
    }


def special(name: str, kind: bytes, to: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def refused(archive: Path, match: str, **options: int) -> None:
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=match) as error:
        extract_archive(archive, archive.parent / "out", **options)
    assert error.value.location == str(archive) and error.value.hint
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_format_is_detected_by_content(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / "set.dat"
    make_zip(archive, FILES) if mode == "zip" else make_tar(archive, FILES, mode)
    steps: list[tuple[int, int, str]] = []
    out = extract_archive(archive, tmp_path / "new/out", progress=lambda *step: steps.append(step))
    assert content(out) == FILES
    assert steps[-1][0] <= steps[-1][1] and steps[-1][2] == "extracting set.dat"


def test_a_second_call_does_nothing_and_another_archive_is_refused(tmp_path: Path) -> None:
    archive, out = make_zip(tmp_path / "a.zip", FILES), tmp_path / "out"
    extract_archive(archive, out)
    (out / "b.bin").unlink()
    assert not (extract_archive(archive, out) / "b.bin").exists()
    with pytest.raises(RequestError, match="contains another archive"):
        extract_archive(make_tar(tmp_path / "b.tar", FILES), out)
    (out / ORIGIN_FILE).unlink()
    with pytest.raises(RequestError, match="contains something else"):
        extract_archive(archive, out)
    with pytest.raises(RequestError, match="the archive does not exist"):
        extract_archive(tmp_path / "absent.zip", out)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil", ORIGIN_FILE])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_no_member_leaves_the_target(tmp_path: Path, name: str, make) -> None:
    refused(make(tmp_path / "x", {"good": b"1", name: b"2"}), "would leave the target folder")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(make_tar(tmp_path / "x.tar", {"a": b"1"}, special=special("b", kind)), "b is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "x.zip", {"a": b"1"}, link="b"), "b is a link or a device")


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_bomb_is_refused(tmp_path: Path, make) -> None:
    refused(make(tmp_path / "x", FILES), "contains more than", max_bytes=2_000_000)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a", "a/b"])
def test_repeated_member_is_refused(tmp_path: Path, second: str) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "1")
        file.writestr(second, "2")
    refused(archive, "occurs twice")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: str, share: float) -> None:
    whole, archive = tmp_path / "whole", tmp_path / "cut"
    files = {"a": os.urandom(70_000), "b": os.urandom(70_000)}
    make_zip(whole, files) if mode == "zip" else make_tar(whole, files, mode)
    archive.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    refused(archive, "truncated|not a .zip")


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"a": bytes(512), "b": bytes(512)})
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, "truncated")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_a_damaged_archive_is_refused(tmp_path: Path, mode: str) -> None:
    archive, files = tmp_path / "x", {"a": os.urandom(9000)}
    make_zip(archive, files) if mode == "zip" else make_tar(archive, files, mode)
    data = bytearray(archive.read_bytes())
    data[4000] ^= 255
    archive.write_bytes(data)
    refused(archive, "damaged")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>"])
def test_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "not a .zip, .tar or .rar")


UNRAR = """#!/bin/sh
if [ "$1" = lt ]; then printf '{listing}'; else [ "$4 $5" = "-inul --" ] || exit 9; {action}; fi
exit {code}
"""
LISTING = "Archive: x.rar\\n\\n        Name: d/a b.txt\\n        Type: File\\n        Size: 2\\n Packed size: 2\\n"
LISTING += "       CRC32: D8932AAC\\n\\n        Name: d\\n        Type: Directory\\n"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, listing: str, action: str, code: int = 0) -> Path:
    """Write a .rar file and a program that replaces unrar."""
    archive = folder / "x.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00")
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/unrar"
    program.write_text(UNRAR.format(listing=listing, action=action, code=code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return archive


def test_a_rar_goes_through_unrar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = "\\n        Name: 船.bin\\n        Type: File\\n        Size: 3000000\\n"
    action = "printf hi; head -c 3000000 /dev/zero"
    archive = stand_in(tmp_path, monkeypatch, LISTING + second, action)
    assert content(extract_archive(archive, tmp_path / "out")) == {"d/a b.txt": b"hi", "船.bin": bytes(3_000_000)}


@pytest.mark.parametrize(
    ("listing", "action", "code", "match"),
    [
        (LISTING.replace("d/a", "../a"), "printf hi", 0, "would leave the target folder"),
        (LISTING.replace("File", "Unix symbolic link"), "printf hi", 0, "link or a device"),
        (LISTING.replace("Size: 2\\n P", "Size: 9999999\\n P"), "printf hi", 0, "contains more than"),
        (LISTING + LISTING, "printf hihi", 0, "occurs twice"),
        (LISTING, "printf h", 0, "truncated"),
        (LISTING, "printf ho", 0, "damaged"),
        (LISTING, "printf hi; exit 3", 0, "unrar failed: 3"),
        (LISTING, "printf hi", 3, "unrar failed"),
        ("", ":", 0, "unrar failed"),
    ],
)
def test_malicious_rar_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str, action: str, code: int, match: str
) -> None:
    refused(stand_in(tmp_path, monkeypatch, listing, action, code), match, max_bytes=1_000_000)


def test_error_without_unrar_has_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "x.rar").write_bytes(b"Rar!\x1a\x07\x00")
    refused(tmp_path / "x.rar", "needs the program unrar")


MANY = {f"d{number % 3}/{number}.bin": bytes([number]) * (number * 40_000 + 1) for number in range(8)}


def extract_until(owner: object, name: str, call: int, after: bool, archive: Path, target: Path) -> None:
    kill_at_call(owner, name, call, after)
    extract_archive(archive, target)


def states(working: Path) -> dict[str, tuple[int, int]]:
    """Return inode and modification time of the finished files."""
    files = (path for path in (working / "files").rglob("*") if path.is_file())
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if path.name != ORIGIN_FILE}


MOMENTS = [
    (extract, "iterate_members", 1, False),
    (extract, "_copy", 1, False),
    (extract, "_copy", 5, True),  # the member has its temporary name
    (extract, "_create_parent", 5, True),
    (extract, "_copy", 8, True),
    (extract, "sync_all", 1, True),
    (extract, "_publish", 1, True),
    (extract.shutil, "rmtree", 1, False),
]


@pytest.mark.parametrize("mode", ["w", "w:gz", "zip"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[1]}-{moment[2]}")
def test_killed_and_run_again(tmp_path: Path, mode: str, moment: tuple[object, str, int, bool]) -> None:
    archive, out = tmp_path / "x", tmp_path / "home/out"
    make_zip(archive, MANY) if mode == "zip" else make_tar(archive, MANY, mode)
    run_until_killed(extract_until, *moment, archive, out)
    assert not out.exists() or content(out) == MANY
    before = states(out.parent / ".out.partial")
    assert content(extract_archive(archive, out)) == MANY
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    after = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.bin")}
    assert before.items() <= after.items()
    if moment[1:3] == ("_copy", 5):
        assert len(before) == 4


@pytest.mark.parametrize("mode", ["w:gz", "zip"])
def test_killed_again_and_again_each_member_is_written_once(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive, out = tmp_path / "x", tmp_path / "out"
    make_zip(archive, MANY) if mode == "zip" else make_tar(archive, MANY, mode)
    for _ in range(3):
        run_until_killed(extract_until, extract, "_write_member", 3, False, archive, out)
    written: list[str] = []
    write = extract._write_member

    def counted(member: extract.ArchiveMember, *rest: Path) -> None:
        written.append(member.path.name)
        write(member, *rest)

    monkeypatch.setattr(extract, "_write_member", counted)
    assert content(extract_archive(archive, out)) == MANY and written == ["6.bin", "7.bin"]
    assert "6 files exist" in caplog.text


def test_killed_from_outside(tmp_path: Path) -> None:
    files = {f"{number}": os.urandom(200_000) for number in range(60)}
    archive, out = make_tar(tmp_path / "x.tgz", files, "w:gz"), tmp_path / "out"
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        process = context.Process(target=extract_archive, args=(archive, out))
        process.start()
        time.sleep(0.05)
        process.kill()
        process.join(20)
    assert content(extract_archive(archive, out)) == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tgz"]


@pytest.mark.parametrize(("mode", "data"), [("zip", b"other"), ("w", b"less")])
def test_incomplete_file_is_written_again(tmp_path: Path, mode: str, data: bytes) -> None:
    archive, files = tmp_path / "x", {"a": b"whole", "b": b"whole"}
    make_zip(archive, files) if mode == "zip" else make_tar(archive, files, mode)
    run_until_killed(extract_until, extract, "_write_member", 2, False, archive, tmp_path / "out")
    (tmp_path / ".out.partial/files/a").write_bytes(data)
    assert content(extract_archive(archive, tmp_path / "out")) == files


def test_unfinished_extraction_of_another_archive_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_until_killed(extract_until, extract, "_copy", 5, False, make_zip(tmp_path / "a.zip", MANY), tmp_path / "out")
    assert content(extract_archive(make_zip(tmp_path / "b.zip", FILES), tmp_path / "out")) == FILES
    assert "extraction of another archive" in caplog.text and "continuing" not in caplog.text


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_resumed_extraction_has_the_same_checks(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("a", "b", "a"):
            file.writestr(name, bytes(1000))
    run_until_killed(extract_until, extract, "_write_member", 2, True, archive, tmp_path / "out")
    with pytest.raises(DataError, match="occurs twice"):
        extract_archive(archive, tmp_path / "out")
    big = make_zip(tmp_path / "big.zip", {"a": bytes(1000), "b": bytes(1000)})
    run_until_killed(extract_until, extract, "_write_member", 2, False, big, tmp_path / "out")
    with pytest.raises(DataError, match="contains more than"):
        extract_archive(big, tmp_path / "out", max_bytes=1500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.zip", "x.zip"]


def test_rar_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = "\\n        Name: b\\n        Type: File\\n        Size: 3\\n"
    archive = stand_in(tmp_path, monkeypatch, LISTING + second, "printf hiyou")
    run_until_killed(extract_until, extract, "_write_member", 2, False, archive, tmp_path / "out")
    before = states(tmp_path / ".out.partial")
    out = extract_archive(archive, tmp_path / "out")
    assert content(out) == {"d/a b.txt": b"hi", "b": b"you"}
    assert before == {"a b.txt": ((out / "d/a b.txt").stat().st_ino, (out / "d/a b.txt").stat().st_mtime_ns)}


def test_extraction_continues_after_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    archive = make_zip(tmp_path / "x.zip", FILES)
    with monkeypatch.context() as patch, pytest.raises(RsftError, match=r"No space left.*it continues"):
        patch.setattr(extract, "_copy", full)
        extract_archive(archive, tmp_path / "out")
    assert (tmp_path / ".out.partial").exists() and not (tmp_path / "out").exists()
    assert content(extract_archive(archive, tmp_path / "out")) == FILES


def test_second_process_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", FILES)
    with FileLock(tmp_path / ".out.lock"), pytest.raises(RequestError, match="is extracting to this folder"):
        extract_archive(archive, tmp_path / "out")
