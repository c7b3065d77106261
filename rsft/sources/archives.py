"""Archives as published, opened without trust: nothing in them leaves the target folder, and links are refused."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFMT, S_ISDIR, S_ISREG
from typing import IO

from rsft.errors import DataError, RequestError
from rsft.files import replacing_folder, write_text

Progress = Callable[[int, int, str], None]

MARKER = ".archive.json"
"""In the target, once it is whole: which archive it came from."""
MAX_BYTES = 200 * 2**30
"""What an archive may hold, unpacked, unless the caller says otherwise."""

_CHUNK = 2**20
_RAR_MAGIC = b"Rar!\x1a\x07"
_BY_HAND = "unpack it by hand if you trust it, and name the folder"
_AGAIN = "download the archive again"
_FAULTS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@dataclass(frozen=True)
class _Member:
    """A regular file in an archive; `read` bytes of the archive lie before or in it."""

    name: str
    size: int
    read: int
    open: Callable[[], IO[bytes]]


def extract_archive(
    archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, progress: Progress | None = None
) -> Path:
    """Unpack a .zip, .tar (also .gz, .bz2, .xz) or, where `unrar` is installed, .rar into the new folder `target`.

    The kind is found by content. The folder appears whole or not at all; where it holds this archive already, nothing
    is done. `progress` counts MiB.

    Raises:
        RequestError: no such archive, or `target` holds something else.
        DataError: the archive is damaged or of another kind, asks for a password, holds more than `max_bytes`, or has a
            member that is a link or a device, leaves the target, or comes twice.
    """
    if not archive.is_file():
        raise RequestError("there is no such archive", archive, "check the path")
    facts = archive.stat()
    identity = {"name": archive.name, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    if _holds(target, identity):
        return target
    with replacing_folder(target) as folder:
        try:
            if _starts_with(archive, _RAR_MAGIC):
                _unrar(archive, folder, max_bytes)
            elif tarfile.is_tarfile(archive):
                _write(_tar_members(archive), archive, folder, max_bytes, progress)
            elif zipfile.is_zipfile(archive):
                _write(_zip_members(archive), archive, folder, max_bytes, progress)
            else:
                raise DataError("the file is no .zip, .tar or .rar archive", archive, _AGAIN)
        except _FAULTS as error:
            raise DataError(f"the archive is cut short or damaged: {error}", archive, _AGAIN) from error
        write_text(folder / MARKER, json.dumps(identity) + "\n")
    return target


def _holds(target: Path, identity: dict[str, object]) -> bool:
    """Whether `target` came of this archive.

    Raises:
        RequestError: it holds something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    marker = target / MARKER
    if marker.is_file() and json.loads(marker.read_text("utf-8")) == identity:
        return True
    found = "another archive" if marker.is_file() else "something else"
    raise RequestError(f"the folder to unpack into holds {found}", target, "remove it, or choose another")


def _write(members: Iterator[_Member], archive: Path, folder: Path, max_bytes: int, progress: Progress | None) -> None:
    left, total = max_bytes, _mebibytes(archive.stat().st_size)
    for member in members:
        left -= member.size
        if left < 0:
            raise _too_large(archive, max_bytes)
        path = folder / _inside(member.name, archive)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file, member.open() as source:
                shutil.copyfileobj(source, file, _CHUNK)
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"{member.name} comes twice in the archive", archive, _BY_HAND) from error
        if path.stat().st_size != member.size:
            raise DataError(f"{member.name} is cut short", archive, _AGAIN)
        if progress is not None:
            progress(min(_mebibytes(member.read), total), total, f"unpacking {archive.name}")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        for info in tar:
            if info.isdir():
                _inside(info.name, archive)
            elif info.isreg():
                yield _Member(info.name, info.size, raw.tell(), partial(_opened, tar, info))
            else:
                raise _no_file(info.name, archive)
        if tar.fileobj is not None and tar.fileobj.tell() == tar.offset:  # no end mark was read: tarfile says nothing
            raise DataError("the archive is cut short", archive, _AGAIN)


def _zip_members(archive: Path) -> Iterator[_Member]:
    read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 1:
                raise DataError("the archive asks for a password", archive, _BY_HAND)
            if S_IFMT(mode) and not (S_ISREG(mode) or S_ISDIR(mode)):
                raise _no_file(info.filename, archive)
            read += info.compress_size
            if info.is_dir():
                _inside(info.filename, archive)
            else:
                yield _Member(info.filename, info.file_size, read, partial(file.open, info))


def _unrar(archive: Path, folder: Path, max_bytes: int) -> None:
    """List first, then unpack into the empty folder, then look again: `unrar` is not ours."""
    if shutil.which("unrar") is None:
        raise DataError("a .rar archive needs the program unrar", archive, f"install it, or {_BY_HAND.split(' if')[0]}")
    listed = _run_unrar("lt", archive)
    names = re.findall(r"^ *Name: (.*)$", listed, re.MULTILINE)
    kinds = re.findall(r"^ *Type: (.*)$", listed, re.MULTILINE)
    if sum(map(int, re.findall(r"^ *Size: (\d+)$", listed, re.MULTILINE))) > max_bytes:
        raise _too_large(archive, max_bytes)
    for name, kind in zip(names, kinds, strict=True):
        if kind not in ("File", "Directory"):
            raise _no_file(name, archive)
        _inside(name, archive)
    _run_unrar("x", archive, f"{folder}/")
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _no_file(path.relative_to(folder).as_posix(), archive)


def _run_unrar(command: str, archive: Path, *words: str) -> str:
    call = ["unrar", command, "-p-", "-y", "-idp", "--", str(archive.absolute()), *words]
    done = subprocess.run(call, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise DataError(f"unrar gave up: {' '.join(last) or done.returncode}", archive, _AGAIN)
    return done.stdout


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The member's path below the target, whatever system wrote it.

    Raises:
        DataError: it leaves the target.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name or path.name == MARKER:
        raise DataError(f"{name!r} would leave the folder to unpack into", archive, _BY_HAND)
    return path


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None  # as for every regular file
    return stream


def _no_file(name: str, archive: Path) -> DataError:
    return DataError(f"{name} is a link or a device", archive, _BY_HAND)


def _too_large(archive: Path, max_bytes: int) -> DataError:
    return DataError(f"the archive holds more than {max_bytes / 2**30:.3g} GiB", archive, "raise the limit, if it may")


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _mebibytes(count: int) -> int:
    return -(-count // 2**20)
