"""Extraction of valid, damaged and malicious archives; nothing of a refused archive
stays on the disk."""

import errno
import gzip
import os
import shutil
import stat
import struct
import tarfile
import zlib
from collections import namedtuple
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rarfile

from rsft.errors import DataError, RequestError, RsftError
from rsft.utils import archives, operating_system
from rsft.utils.archives import extract_archive
from tests.helpers.archive_files import make_rar, make_tar, make_zip
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.messages import mentions

FILES = {"a/船 1.txt": b"one", "b.bin": bytes(3_000_000)}
every_format = pytest.mark.parametrize("make", [make_tar, make_zip, make_rar])


def make_any(path, files, mode):
    make = {"zip": make_zip, "rar": make_rar}.get(mode, partial(make_tar, mode=mode))
    return make(path, files)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


def refused(archive, match, error=DataError):
    """Assert that an archive is refused with a hint, and that nothing was written,
    inside or outside of the target."""

    def files():
        return sorted([*archive.parent.rglob("*"), *archive.parent.parent.iterdir()])

    before = files()
    with pytest.raises(error, match=match) as caught:
        extract_archive(archive, archive.parent / "out")
    assert (
        type(caught.value) is error
        and caught.value.location == str(archive)
        and caught.value.hint
    )
    assert files() == before


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip", "rar"])
def test_format_is_detected_by_content(tmp_path, mode):
    archive = make_any(tmp_path / "set.dat", FILES, mode)
    steps: list[tuple[int, int, str]] = []
    out = extract_archive(
        archive, tmp_path / "new/out", progress=lambda *step: steps.append(step)
    )
    assert content(out) == FILES and [path.name for path in out.parent.iterdir()] == [
        "out"
    ]
    assert (
        steps[-1][0] <= steps[-1][1]
        and steps[-1][2] == "extracting set.dat"
        and len(steps) == 2
    )


@pytest.mark.parametrize("make", [make_zip, make_rar])
def test_folders_are_created(tmp_path, make):
    out = extract_archive(
        make(tmp_path / "x", {"empty/": b"", "a/": b"", "a/b": b"1"}), tmp_path / "out"
    )
    assert (out / "empty").is_dir() and content(out) == {"a/b": b"1"}


def test_names_of_other_tools(tmp_path):
    """`tar .` writes ./ before every name, and some tools for Windows write backslashes
    into a .zip."""
    root = tarfile.TarInfo(".")
    root.type = tarfile.DIRTYPE
    archive = make_tar(tmp_path / "x.tar", {"./a": b"1", "./b//c": b"2"}, special=root)
    assert content(extract_archive(archive, tmp_path / "out")) == {
        "a": b"1",
        "b/c": b"2",
    }
    archive = make_zip(tmp_path / "x.zip", {"a\\b": b"1", "a\\c": b"2"})
    assert content(extract_archive(archive, tmp_path / "out2")) == {
        "a/b": b"1",
        "a/c": b"2",
    }


def test_permissions_of_an_archive_are_not_applied(tmp_path):
    info = special("tool", tarfile.REGTYPE)
    info.mode = 0o6777
    info.uid = 12345
    (tmp_path / "plain").touch()
    out = extract_archive(
        make_tar(tmp_path / "x.tar", {}, special=info), tmp_path / "out"
    )
    plain = (tmp_path / "plain").stat()
    status = (out / "tool").stat()
    assert (status.st_mode, status.st_uid) == (plain.st_mode, plain.st_uid)


def test_target_and_archive_are_checked(tmp_path):
    archive = make_zip(tmp_path / "a.zip", FILES)
    out = tmp_path / "out"
    extract_archive(archive, out)
    (out / "b.bin").unlink()
    with pytest.raises(RequestError, match=mentions("folder", "exists")):
        extract_archive(archive, out)
    assert not (out / "b.bin").exists()
    with pytest.raises(RequestError, match=mentions("archive does not exist")):
        extract_archive(tmp_path / "absent.zip", tmp_path / "new")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/evil",
        "a/../../evil",
        "..\\evil",
        "C:\\evil",
        "C:evil",
        "//host/evil",
    ],
)
@every_format
def test_no_member_leaves_the_target(tmp_path, name, make):
    refused(
        make(tmp_path / "x", {"good": b"1", name: b"2"}),
        "would leave the target folder",
    )


KINDS = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    b"Z",
]


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices_are_refused(tmp_path, kind):
    refused(
        make_tar(tmp_path / "x.tar", {"a": b"1"}, special=special("b", kind)),
        "'b' is a link or a device",
    )


@pytest.mark.parametrize(
    "mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    refused(
        make_zip(tmp_path / "x.zip", {"a": b"1", "b": b"/etc/passwd"}, mode),
        "'b' is a link or a device",
    )


@pytest.mark.parametrize("link", [1, 2, 3, 4, 5])
def test_links_in_a_rar_are_refused(tmp_path, link):
    refused(
        make_rar(tmp_path / "x.rar", {"good": b"1", "b": b""}, link=link),
        "'b' is a link or a device",
    )


@every_format
def test_a_bomb_is_refused(tmp_path, make, monkeypatch):
    archive = make(tmp_path / "x", FILES)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_BYTES", 2_000_000)
        refused(archive, "contains more than 0.00186 GiB")
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_MEMBERS", 1)
        refused(archive, "contains more than 1 members")
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 2_000_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    refused(archive, "than the 0.00186 GiB that the disk has free", error=RsftError)


@pytest.mark.parametrize("make", [make_zip, make_rar])
def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path, make, monkeypatch):
    # a process that is killed while a member is written
    monkeypatch.setattr(
        archives, "_write_member", lambda *_: pytest.fail("a member was written")
    )
    monkeypatch.setattr(archives, "MAX_BYTES", 2_000_000)
    refused(make(tmp_path / "x", FILES), "contains more than")
    refused(
        make(tmp_path / "y", {"a": b"", "../b": b""}), "would leave the target folder"
    )


def test_a_sparse_tar_counts_with_the_size_of_its_files(tmp_path):
    info = tarfile.TarInfo("huge")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "huge",
    }
    info.pax_headers |= {
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(2**50),
        "GNU.sparse.realsize": str(2**50),
    }
    refused(
        make_tar(tmp_path / "x.tar", {}, special=info), "contains more than 200 GiB"
    )


def patch_sizes(archive, old, new):
    """Replace the uncompressed size in both headers of a .zip."""
    data = archive.read_bytes()
    for start in (data.index(b"PK\3\4") + 22, data.index(b"PK\1\2") + 24):
        assert data[start : start + 4] == old.to_bytes(4, "little")
        data = data[:start] + new.to_bytes(4, "little") + data[start + 4 :]
    archive.write_bytes(data)


@pytest.mark.parametrize("stated", [10, 5_000_000])
def test_a_size_that_is_not_true_is_refused(tmp_path, stated):
    """No more bytes are written than the header states, and fewer are an error."""
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(3_000_000)})
    patch_sizes(archive, 3_000_000, stated)
    refused(archive, "truncated or damaged")
    refused(
        make_rar(tmp_path / "x.rar", {"a": bytes(3000)}, sizes={"a": stated}),
        "truncated or damaged",
    )


@pytest.mark.slow
def test_a_negative_size_is_refused(tmp_path):
    """With a negative size, tarfile reads the same header for ever (CVE-2025-8194)."""
    archive = make_tar(tmp_path / "x.tar", {"a": b""})
    data = bytearray(archive.read_bytes())
    data[124:136] = (-512).to_bytes(12, "big", signed=True)
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    archive.write_bytes(data)
    # newer versions of tarfile refuse the header themselves
    refused(archive, "damaged|not a .zip")


CLASHES = [
    ("a", "a"),
    ("A.png", "a.png"),
    ("d/Straße", "D/STRASSE"),
    ("é", "e\u0301"),
    ("a", "a/b"),
    ("a/b", "a"),
    ("A", "a/b"),
    ("d/x/y", "D/X"),
    ("a", "./a"),
    ("a", "a//"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("first", "second"), CLASHES)
@every_format
def test_names_that_clash_are_refused(tmp_path, first, second, make):
    refused(make(tmp_path / "x", [(first, b"1"), (second, b"2")]), "occurs twice")


@every_format
def test_folders_may_occur_twice(tmp_path, make):
    files = {"d/": b"", "d/a": b"1", "D/b": b"2"}
    if make is make_tar:
        del files["d/"]
    out = extract_archive(make(tmp_path / "x", files), tmp_path / "out")
    # the second: a Mac
    assert content(out) in (
        {"d/a": b"1", "D/b": b"2"},
        {"d/a": b"1", "d/b": b"2"},
    )


NOT_ON_WINDOWS = [
    "ab:c",
    "d/nul",
    "CON.txt",
    "aux .c",
    "com1",
    "lpt³.dat",
    "a?",
    "dot.",
    "space ",
    "tab\t",
    "d. /a",
]


@pytest.mark.parametrize("name", NOT_ON_WINDOWS)
def test_names_that_windows_cannot_hold(tmp_path, name, monkeypatch):
    archive = make_tar(tmp_path / "x.tar", {"console.txt": b"1", name: b"1"})
    assert content(extract_archive(archive, tmp_path / "out")) == {
        "console.txt": b"1",
        name: b"1",
    }
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(operating_system, "is_windows", lambda: True)
    refused(archive, "Windows cannot hold the name")


@pytest.mark.parametrize("name", ["", "."])
def test_a_file_without_a_name_is_refused(tmp_path, name):
    refused(make_tar(tmp_path / "x.tar", {"a": b"1", name: b"2"}), "occurs twice")


@pytest.mark.slow
def test_encrypted_archives_are_refused(tmp_path):
    refused(
        make_rar(tmp_path / "x.rar", {"a": b"1", "b": b"2"}, is_encrypted=True),
        "is encrypted",
    )
    archive = make_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(archive.read_bytes())
    for start in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        data[start] |= 1
    archive.write_bytes(data)
    refused(archive, "is encrypted")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip", "rar"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path, mode, share):
    archive = make_any(
        tmp_path / "x", {"a": os.urandom(70_000), "b": os.urandom(70_000)}, mode
    )
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    refused(archive, "truncated|not a .zip")


@pytest.mark.slow
def test_an_archive_cut_between_two_members_is_refused(tmp_path):
    archive = make_tar(tmp_path / "x.tar", {"a": bytes(512), "b": bytes(512)})
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, "truncated or damaged: it has no end mark")
    archive = make_rar(tmp_path / "x.rar", {"a": b"1"})
    archive.write_bytes(archive.read_bytes()[:-8])
    refused(archive, "truncated or damaged: Unexpected EOF")


@pytest.mark.parametrize("has_end", [True, False])
def test_the_older_rar_format_needs_an_end_mark_too(tmp_path, has_end):
    def block(kind, flags, body):
        header = struct.pack("<BHH", kind, flags, len(body) + 7) + body
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header

    file = (
        struct.pack("<LLBLLBBHL", 2, 2, 3, zlib.crc32(b"hi"), 0, 29, 0x30, 1, 0o100644)
        + b"a"
    )
    blocks = [
        block(0x73, 0, bytes(6)),
        block(0x74, 0x8000, file) + b"hi",
        block(0x7B, 0x4000, b"") * has_end,
    ]
    archive = tmp_path / "x.rar"
    archive.write_bytes(b"Rar!\x1a\x07\0" + b"".join(blocks))
    if has_end:
        assert content(extract_archive(archive, tmp_path / "out")) == {"a": b"hi"}
    else:
        refused(archive, "truncated or damaged: it has no end mark")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_with_a_damaged_header_is_refused(tmp_path, mode):
    """tarfile takes it for the end of the archive."""
    archive = make_tar(tmp_path / "x", {"a": b"1" * 512, "b": b"2" * 512})
    data = bytearray(archive.read_bytes())
    data[1024] ^= 255
    archive.write_bytes(data if mode == "w" else gzip.compress(data))
    refused(archive, "truncated or damaged: data follow its end mark")


@pytest.mark.slow
def test_a_tar_with_endless_padding_is_refused(tmp_path):
    archive = make_tar(tmp_path / "x", {"a": b"1"})
    archive.write_bytes(gzip.compress(archive.read_bytes() + bytes(50_000_000)))
    refused(archive, "data follow its end mark")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip", "rar"])
def test_random_damage_gives_a_clear_error(tmp_path, mode, monkeypatch):
    """Damaged archives are refused or, if no checked byte changed, extracted; nothing
    else happens."""
    files = {f"d/{number}": bytes([number]) * number * 50 for number in range(6)}
    archive = make_any(tmp_path / "x", files, mode)
    random = np.random.default_rng(0)
    original = archive.read_bytes()
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000_000)
    for _ in range(100):
        data = bytearray(original)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            data[position] = random.integers(0, 256)
        archive.write_bytes(
            data[
                : len(data) if random.random() < 0.8 else random.integers(0, len(data))
            ]
        )
        try:
            out = extract_archive(archive, tmp_path / "out")
        except DataError as error:
            assert error.hint
        else:
            shutil.rmtree(out)
        assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>"])
def test_something_else_is_refused(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "not a .zip, .tar or .rar")


UNRAR = """#!/bin/sh
[ "$1" = -inul ] && exit 0  # the check whether the program exists
[ "$1 $2 $3 $4" = "p -inul -p- --" ] || exit 9
{action}
"""


def stand_in(folder, monkeypatch, action):
    """Put a program that replaces unrar in the path."""
    (folder / "bin").mkdir()
    program = folder / "bin/unrar"
    program.write_text(UNRAR.format(action=action))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    rarfile.tool_setup(force=True)


def test_a_compressed_rar_goes_through_unrar(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "head -c 3000000 /dev/zero")
    files = {"d/a b.txt": bytes(3_000_000), "船.bin": bytes(3_000_000)}
    archive = make_rar(tmp_path / "x.rar", files, is_compressed=True)
    assert content(extract_archive(archive, tmp_path / "out")) == files


@pytest.mark.parametrize(
    "action",
    ["printf h", "printf ho", "printf 'cannot open'; exit 2", "exit 3", "exit 0"],
)
def test_a_rar_that_unrar_cannot_read_is_refused(tmp_path, monkeypatch, action):
    stand_in(tmp_path, monkeypatch, action)
    archive = make_rar(tmp_path / "x.rar", {"a": b"hi"}, is_compressed=True)
    refused(archive, "truncated or damaged.*or install unrar")


def test_only_as_much_is_read_from_unrar_as_the_header_states(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "printf hi; cat /dev/zero")
    archive = make_rar(tmp_path / "x.rar", {"a": b"hi"}, is_compressed=True)
    assert content(extract_archive(archive, tmp_path / "out")) == {"a": b"hi"}


def test_error_without_unrar_has_a_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = make_rar(tmp_path / "x.rar", {"a": b"hi"}, is_compressed=True)
    refused(archive, "needs the program unrar.*install one, or extract it by hand")


@pytest.mark.slow
def test_large_solid_rar_is_refused(tmp_path):
    """To read a member, the archive must be decompressed from its start."""
    files = {str(number): b"1" for number in range(101)}
    refused(
        make_rar(tmp_path / "x.rar", files, is_solid=True),
        "solid .rar archive with 101 members",
    )
    del files["0"]
    archive = make_rar(tmp_path / "x.rar", files, is_solid=True)
    assert content(extract_archive(archive, tmp_path / "out")) == files


MANY = {
    f"d{number % 3}/{number}.bin": bytes([number]) * (number * 40_000 + 1)
    for number in range(8)
}


def extract_until(owner, name, call, after, archive, target):
    kill_at_call(owner, name, call, after)
    extract_archive(archive, target)


MOMENTS = [
    (archives, "read_members", 1, False),
    (archives, "_write_member", 1, False),
    (archives, "_write_member", 5, True),
    (archives, "_write_member", 8, True),
    (archives, "sync_all", 1, True),
    (Path, "replace", 1, True),
    (shutil, "rmtree", 1, False),
]


@pytest.mark.parametrize("mode", ["w:gz", "zip"])
@pytest.mark.parametrize(
    "moment", MOMENTS, ids=lambda moment: f"{moment[1]}-{moment[2]}"
)
def test_killed_and_run_again(tmp_path, mode, moment):
    archive = make_any(tmp_path / "x", MANY, mode)
    out = tmp_path / "home/out"
    run_until_killed(extract_until, *moment, archive, out)
    if out.exists():
        assert content(out) == MANY
        shutil.rmtree(out)
    assert content(extract_archive(archive, out)) == MANY
    assert {path.name for path in out.parent.iterdir()} == {"out"}


@pytest.mark.parametrize(
    ("code", "text"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission denied")],
)
def test_nothing_stays_after_a_fault_of_the_disk(tmp_path, monkeypatch, code, text):
    def fail(*_):
        raise OSError(
            code, os.strerror(code), *[str(tmp_path / "out/a")] * (code == errno.EACCES)
        )

    archive = make_zip(tmp_path / "x.zip", FILES)
    with (
        monkeypatch.context() as patch,
        pytest.raises(RsftError, match=f"{text}.*run the same command again"),
    ):
        patch.setattr(archives, "_write_member", fail)
        extract_archive(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
    assert content(extract_archive(archive, tmp_path / "out")) == FILES


def test_sparse_files_with_a_map_of_any_size(tmp_path):
    refused(
        make_tar(tmp_path / "a.tar", {}, special=special("a", tarfile.GNUTYPE_SPARSE)),
        "a sparse file",
    )


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d/" * 1200 + "a", "more than 64 folders"),
        ("x" * 300, "more than 255 bytes"),
    ],
)
def test_deep_folders_and_long_names_are_refused(tmp_path, make, name, message):
    refused(make(tmp_path / "a.dat", {name: b"1"}), message)
