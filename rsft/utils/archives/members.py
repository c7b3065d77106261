"""Reading of untrusted archives: no member may leave the target folder or be a link."""

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
"""File in a completely extracted folder that names its archive. No member may have this name."""

EXTRACT_BY_HAND_HINT = "extract it by hand if you trust it, and give the folder"
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
        path: path below the target folder, with / on every system.
        size: size in bytes.
        bytes_read: bytes of the archive up to the end of this member.
        open: opens the content, which must be read before the next member is requested.
        crc: CRC-32; None if the archive does not have it.
    """

    path: PurePosixPath
    size: int
    bytes_read: int
    open: Callable[[], IO[bytes]]
    crc: int | None = None


def iterate_members(archive: Path) -> Iterator[ArchiveMember]:
    """Iterate over the files in a .zip, .tar (also .gz, .bz2, .xz) or .rar archive; its format is detected by content.

    Args:
        archive: the archive.

    Yields:
        The files in the order of the archive.

    Raises:
        DataError: the archive is damaged, encrypted or of another format, needs `unrar`, which is not installed, or has
            a member that is a link or a device or leaves the target folder.
    """
    with translate_read_errors(archive):
        if is_rar(archive):
            yield from _rar_members(archive)
        elif tarfile.is_tarfile(archive):
            yield from _tar_members(archive)
        elif zipfile.is_zipfile(archive):
            yield from _zip_members(archive)
        else:
            raise DataError("the file is not a .zip, .tar or .rar archive", archive, DOWNLOAD_AGAIN_HINT)


@contextmanager
def translate_read_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of the archive libraries for damaged files into DataError.

    Args:
        archive: the archive, for the error message.

    Yields:
        None.

    Raises:
        DataError: the block met a damaged archive.
    """
    damaged = "the archive is truncated or damaged"
    try:
        yield
    except _FAULTS as error:
        raise DataError(f"{damaged}: {error}", archive, DOWNLOAD_AGAIN_HINT) from error
    except OSError as error:
        if error.errno not in (None, EINVAL) or error.filename is not None:  # the disk is at fault, not the archive
            raise
        raise DataError(f"{damaged}: {error}", archive, DOWNLOAD_AGAIN_HINT) from error


def _tar_members(archive: Path) -> Iterator[ArchiveMember]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        for info in tar:
            path = _safe_path(info.name, archive)
            if info.isreg():
                yield ArchiveMember(path, info.size, raw.tell(), partial(_open_tar_member, tar, info))
            elif not info.isdir():
                raise _not_a_file(info.name, archive)
        if tar.fileobj is not None and tar.fileobj.tell() == tar.offset:  # no end mark, which tarfile does not report
            raise DataError("the archive is truncated", archive, DOWNLOAD_AGAIN_HINT)
        while tar.fileobj is not None and tar.fileobj.read(_CHUNK):  # the checksum is at the end
            pass


def _zip_members(archive: Path) -> Iterator[ArchiveMember]:
    bytes_read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.flag_bits & 1:
                raise DataError("the archive is encrypted", archive, EXTRACT_BY_HAND_HINT)
            if S_IFMT(mode) and not (S_ISREG(mode) or S_ISDIR(mode)):
                raise _not_a_file(info.filename, archive)
            path = _safe_path(info.filename, archive)
            bytes_read += info.compress_size
            if not info.is_dir():
                yield ArchiveMember(path, info.file_size, bytes_read, partial(file.open, info), info.CRC)


def _rar_members(archive: Path) -> Iterator[ArchiveMember]:
    records = list(list_rar_members(archive))
    packed = archive.stat().st_size
    total = sum(record.size for record in records) or 1
    with RarStream(archive) as content:
        start = 0
        for record in records:
            path = _safe_path(record.name, archive)
            if record.type == "File":
                open_member = partial(content.open, start, record.size)
                start += record.size
                yield ArchiveMember(path, record.size, packed * start // total, open_member, record.crc)
            elif record.type != "Directory":
                raise _not_a_file(record.name, archive)


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    """Return the path of a member below the target folder.

    Raises:
        DataError: the path leaves the folder, or the member has the reserved name ORIGIN_FILE.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if (
        path.is_absolute()
        or PureWindowsPath(name).drive
        or ".." in path.parts
        or "\0" in name
        or path.name == ORIGIN_FILE
    ):
        message = f"{name!r} would leave the target folder or replace {ORIGIN_FILE}"
        raise DataError(message, archive, EXTRACT_BY_HAND_HINT)
    return path


def _open_tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None  # true for every regular file
    return stream


def _not_a_file(name: str, archive: Path) -> DataError:
    return DataError(f"{name} is a link or a device", archive, EXTRACT_BY_HAND_HINT)
