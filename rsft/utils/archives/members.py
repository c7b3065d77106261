"""What an archive holds, read without trust: no member leaves the folder it is unpacked into, none is a link."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFMT, S_ISDIR, S_ISREG
from typing import IO

from rsft.errors import DataError
from rsft.utils.archives.rar import RarStream, is_rar, list_rar_members

ORIGIN_FILE = ".archive.json"
"""In a folder that was unpacked, once it is whole: which archive it came from. No member may be called so."""

EXTRACT_BY_HAND_HINT = "unpack it by hand if you trust it, and name the folder"
DOWNLOAD_AGAIN_HINT = "download the archive again"

_CHUNK = 2**20
_FAULTS = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, ValueError),
)


@dataclass(frozen=True)
class ArchiveMember:
    """A regular file in an archive.

    Attributes:
        path: below the folder to unpack into, whatever system wrote the archive.
        size: in bytes.
        read: bytes of the archive that lie before or in it.
        open: its content, to be read before the next member is drawn.
        crc: its CRC-32, where the archive tells it.
    """

    path: PurePosixPath
    size: int
    read: int
    open: Callable[[], IO[bytes]]
    crc: int | None = None


def iterate_members(archive: Path) -> Iterator[ArchiveMember]:
    """The files in a .zip, .tar (also .gz, .bz2, .xz) or .rar, in its order; the kind is found by content.

    Raises:
        DataError: the archive is damaged or of another kind, asks for a password, needs `unrar` where there is none, or
            has a member that is a link or a device or leaves the folder to unpack into.
    """
    with translate_read_errors(archive):
        if is_rar(archive):
            yield from _rar_members(archive)
        elif tarfile.is_tarfile(archive):
            yield from _tar_members(archive)
        elif zipfile.is_zipfile(archive):
            yield from _zip_members(archive)
        else:
            raise DataError("the file is no .zip, .tar or .rar archive", archive, DOWNLOAD_AGAIN_HINT)


@contextmanager
def translate_read_errors(archive: Path) -> Iterator[None]:
    """Tell what the readers of archives raise where one is damaged as a DataError."""
    damaged = "the archive is cut short or damaged"
    try:
        yield
    except _FAULTS as error:
        raise DataError(f"{damaged}: {error}", archive, DOWNLOAD_AGAIN_HINT) from error
    except OSError as error:
        if error.errno not in (None, EINVAL) or error.filename is not None:  # a fault of the disk
            raise
        raise DataError(f"{damaged}: {error}", archive, DOWNLOAD_AGAIN_HINT) from error


def _tar_members(archive: Path) -> Iterator[ArchiveMember]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        for info in tar:
            path = _inside(info.name, archive)
            if info.isreg():
                yield ArchiveMember(path, info.size, raw.tell(), partial(_opened, tar, info))
            elif not info.isdir():
                raise _no_file(info.name, archive)
        if tar.fileobj is not None and tar.fileobj.tell() == tar.offset:  # no end mark was read: tarfile says nothing
            raise DataError("the archive is cut short", archive, DOWNLOAD_AGAIN_HINT)
        while tar.fileobj is not None and tar.fileobj.read(_CHUNK):  # the checksum of a compressed one is at its end
            pass


def _zip_members(archive: Path) -> Iterator[ArchiveMember]:
    read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 1:
                raise DataError("the archive asks for a password", archive, EXTRACT_BY_HAND_HINT)
            if S_IFMT(mode) and not (S_ISREG(mode) or S_ISDIR(mode)):
                raise _no_file(info.filename, archive)
            path = _inside(info.filename, archive)
            read += info.compress_size
            if not info.is_dir():
                yield ArchiveMember(path, info.file_size, read, partial(file.open, info), info.CRC)


def _rar_members(archive: Path) -> Iterator[ArchiveMember]:
    records = list(list_rar_members(archive))
    packed = archive.stat().st_size
    total = sum(record.size for record in records) or 1
    with RarStream(archive) as content:
        start = 0
        for record in records:
            path = _inside(record.name, archive)
            if record.kind == "File":
                opened = partial(content.open, start, record.size)
                start += record.size
                yield ArchiveMember(path, record.size, packed * start // total, opened, record.crc)
            elif record.kind != "Directory":
                raise _no_file(record.name, archive)


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The member's path below the target.

    Raises:
        DataError: it leaves the target.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if (
        path.is_absolute()
        or PureWindowsPath(name).drive
        or ".." in path.parts
        or "\0" in name
        or path.name == ORIGIN_FILE
    ):
        raise DataError(f"{name!r} would leave the folder to unpack into", archive, EXTRACT_BY_HAND_HINT)
    return path


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None  # as for every regular file
    return stream


def _no_file(name: str, archive: Path) -> DataError:
    return DataError(f"{name} is a link or a device", archive, EXTRACT_BY_HAND_HINT)
