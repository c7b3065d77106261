"""Read the members of .zip, .tar and .rar archives that are not trusted.

tarfile, zipfile and rarfile only parse and decompress; none of them extracts. rsft
reads the bytes of regular files and writes them to paths that it has checked, so no
link, device, owner or permission of an archive reaches the disk. The faults of
tarfile's extraction filters (CVE-2025-4517, -4330, -4138, CVE-2024-12718) need a link,
or `extractall`, so `filter="data"` would add nothing.
"""

import lzma
import os
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import IO, Any, NamedTuple, NoReturn

from rsft.errors import DataError
from rsft.utils.cell.client import in_cell
from rsft.utils.dependencies import require
from rsft.utils.operating_system import describe_name_fault

BY_HAND_HINT = "extract it by hand if you trust it, and give the folder"
DOWNLOAD_AGAIN_HINT = "download the archive again"

_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_MAX_HEADER = 2**16
"""Bytes of a long name or a pax header of a .tar, and of the pax headers of all
members."""
_MAX_HEADERS = 8  # such headers of one member; tarfile reads each by recursion
_MAX_DEPTH = 64  # folders above a member
_MAX_NAME = 255  # bytes of the name of a file or folder, on all common systems
_MAX_PADDING = 2**20  # bytes after the end mark of a .tar
_MAX_SOLID = 100
"""Members of a .rar archive that must be decompressed from its start to reach one of
them."""
_CHUNK = 2**20
_RAR_MARK = b"Rar!\x1a\x07"
_PART = re.compile(
    r".+\.((zip|rar|7z|tgz|tar(\.\w+)?)\.\d{3}|part\d+\.rar|[rz]\d\d)", re.IGNORECASE
)
ZIP_FAULTS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
)
"""Exceptions of zipfile for damaged archives, and for methods that it does not know."""

_FAULTS = (
    tarfile.TarError,
    *ZIP_FAULTS,
    ValueError,
    LookupError,
    OverflowError,
)
"""Exceptions of the libraries for damaged archives, besides those of rarfile."""


class Member(NamedTuple):
    """A member of an archive.

    Attributes:
        name: its name as the archive states it.
        is_folder: whether it is a folder.
        is_other: whether it is neither a regular file nor a folder.
        size: size in bytes, as the archive states it.
        bytes_read: bytes of the archive up to the end of this member.
        read: yields the content of a file, which must be read before the next member
            is requested.
    """

    name: str
    is_folder: bool
    is_other: bool
    size: int
    bytes_read: int
    read: Callable[[], Iterable[bytes]]

    @property
    def path(self) -> PurePosixPath:
        """Path below the target folder, with / on every system."""
        return PurePosixPath(self.name.replace("\\", "/"))


def describe_part(path: Path) -> str:
    """Return how to use a file that is one part of a divided archive, by its name.

    Returns:
        A sentence; "" for another file.

    Example:
        >>> describe_part(Path("FUSAR.zip.001"))
        'FUSAR.zip.001 is one part of an archive: extract all parts by hand with ...'
    """
    is_last = path.suffix.lower() == ".zip" and path.with_suffix(".z01").exists()
    if not is_last and not _PART.fullmatch(path.name):
        return ""
    return (
        f"{path} is one part of an archive: extract all parts by hand with 7z, and give"
        " the folder"
    )


def read_members(archive: Path) -> Iterator[Member]:
    """Iterate over the members of an archive, in its order.

    A .rar archive is read here, because rarfile starts another program.

    Raises:
        DataError: the archive is encrypted or of another format, or has a member that
            is a link or a device, or whose name leaves the target folder or cannot
            exist on this system. See `translate_read_errors` for the others.
        RequestError: rarfile, which a .rar archive needs, is not installed.
    """
    with archive.open("rb") as file:
        is_rar = file.read(len(_RAR_MARK)) == _RAR_MARK
    for member in (_rar_members if is_rar else _read_members)(archive):
        fault = _find_fault(member)
        if fault:
            raise DataError(fault, archive, BY_HAND_HINT)
        yield member


@in_cell
def _read_members(archive: Path) -> Iterator[Member]:
    with translate_read_errors(archive):
        if is_tar(archive):
            yield from _tar_members(archive)
        elif zipfile.is_zipfile(archive):
            yield from _zip_members(archive)
        else:
            raise DataError(
                "the file is not a .zip, .tar or .rar archive",
                archive,
                describe_part(archive) or DOWNLOAD_AGAIN_HINT,
            )


def _read_content(
    archive: Path, open_member: Callable[[], IO[bytes] | None]
) -> Iterator[bytes]:
    with translate_read_errors(archive):
        content = open_member()
        assert content  # true for every regular file
        with content:
            while chunk := content.read(_CHUNK):
                yield chunk


def _find_fault(member: Member) -> str:
    """Return why a member is refused; "" if it is not."""
    path = member.path
    name = member.name
    if len(name) > 80:
        name = f"{name[:77]}..."
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if member.is_other:
        return f"{name!r} is a link or a device"
    is_absolute = path.is_absolute() or PureWindowsPath(member.name).drive
    if is_absolute or ".." in path.parts or "\0" in member.name:
        return f"{name!r} would leave the target folder"
    if len(path.parts) > _MAX_DEPTH or longest > _MAX_NAME:
        return (
            f"the name {name!r} has more than {_MAX_DEPTH} folders, or one of more than"
            f" {_MAX_NAME} bytes"
        )
    if any(map(describe_name_fault, path.parts)):
        return f"Windows cannot hold the name {name!r}"
    return ""


class _BoundedTarInfo(tarfile.TarInfo):
    """A header of a .tar archive.

    Long names and pax headers are only read if they are few and short.
    """

    def _proc_member(self, archive: Any) -> tarfile.TarInfo:
        if self.type in _LONG_HEADERS:
            archive.long_headers = getattr(archive, "long_headers", 0) + 1
            shared = sum(len(x) + len(y) for x, y in archive.pax_headers.items())
            longest = max(self.size, shared)
            if longest > _MAX_HEADER or archive.long_headers > _MAX_HEADERS:
                raise DataError(
                    f"a header of the archive has more than {_MAX_HEADER:,} bytes, or a"
                    f" member {_MAX_HEADERS} headers",
                    archive.name or "",
                    BY_HAND_HINT,
                )
        else:
            archive.long_headers = 0
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        member.pax_headers = {}  # tarfile keeps all members
        return member

    def _refuse_map(self, *arguments: Any) -> NoReturn:
        raise DataError(
            "the archive contains a sparse file, whose map may have any size",
            arguments[-1].name or "",
            BY_HAND_HINT,
        )

    # other sparse files have their map in a header
    _proc_sparse = _proc_gnusparse_10 = _refuse_map


@in_cell
def is_tar(archive: Path) -> bool:
    """Return whether a file is a .tar archive, compressed or not.

    Raises:
        DataError: it is damaged.
    """
    with translate_read_errors(archive), suppress(tarfile.TarError):
        tarfile.open(archive, tarinfo=_BoundedTarInfo).close()
        return True
    return False


def _tar_members(archive: Path) -> Iterator[Member]:
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw, tarinfo=_BoundedTarInfo) as tar,
    ):
        for info in tar:
            yield Member(
                info.name,
                info.isdir(),
                not (info.isreg() or info.isdir()),
                info.size,
                raw.tell(),
                partial(_read_content, archive, partial(tar.extractfile, info)),
            )
        stream = tar.fileobj
        assert stream
        # tarfile takes the end of the file, and a damaged header, for the end mark
        if stream.tell() == tar.offset:
            raise tarfile.ReadError("it has no end mark")
        # to the end, where the checksum of a compressed archive is
        padding = stream.read(_MAX_PADDING)
        if padding.strip(b"\0") or len(padding) == _MAX_PADDING:
            raise tarfile.ReadError("data follow its end mark")


def _zip_members(archive: Path) -> Iterator[Member]:
    bytes_read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise DataError("the archive is encrypted", archive, BY_HAND_HINT)
            bytes_read += info.compress_size
            yield Member(
                info.filename,
                info.is_dir(),
                S_IFMT(info.external_attr >> 16) not in (0, S_IFREG, S_IFDIR),
                info.file_size,
                bytes_read,
                partial(_read_content, archive, partial(file.open, info)),
            )


def _rar_members(archive: Path) -> Iterator[Member]:
    rarfile = require("rarfile", "archives")
    bytes_read = 0
    blocks = []
    with rarfile.RarFile(
        archive, errors="strict", info_callback=lambda block: blocks.append(block.type)
    ) as file:
        members = file.infolist()
        if file.needs_password():
            raise rarfile.PasswordRequired
        # rarfile takes the end of the file for the end mark
        if blocks[-1:] != [rarfile.RAR_BLOCK_ENDARC]:
            raise rarfile.BadRarFile("it has no end mark")
        if file.is_solid() and len(members) > _MAX_SOLID:
            raise DataError(
                f"a solid .rar archive with {len(members)} members would be"
                " decompressed once for each of them",
                archive,
                BY_HAND_HINT,
            )
        for info in members:
            bytes_read += info.compress_size
            yield Member(
                info.filename,
                info.is_dir(),
                info.is_symlink() or info.file_redir is not None,
                info.file_size,
                bytes_read,
                partial(_read_content, archive, partial(file.open, info)),
            )


@contextmanager
def translate_read_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of the archive libraries into DataError.

    Raises:
        DataError: the archive is damaged or encrypted, it takes too much memory, or the
            program for .rar archives is missing.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:  # of xz: a header states the size of the dictionary
        raise DataError(
            "decompressing the archive takes more memory than is free",
            archive,
            BY_HAND_HINT,
        ) from error
    except OSError as error:
        if error.errno not in (None, EINVAL) or error.filename is not None:
            raise  # the disk is at fault, not the archive
        raise _damaged(archive, error) from error
    except _FAULTS as error:
        raise _damaged(archive, error) from error
    except Exception as error:  # of rarfile, which is only imported for a .rar archive
        if "rarfile" not in sys.modules:
            raise
        raise _explain_rar_error(archive, error) from error


def _damaged(archive: Path, error: Exception, hint: str = "") -> DataError:
    message = f"the archive is truncated or damaged: {error}"
    return DataError(message, archive, DOWNLOAD_AGAIN_HINT + hint)


def _explain_rar_error(archive: Path, error: Exception) -> Exception:
    """Return what an error of rarfile means; another error as it is."""
    rarfile: Any = sys.modules["rarfile"]
    if isinstance(error, rarfile.RarCannotExec):
        return DataError(
            "a .rar archive needs the program unrar, or unar, or 7z with support for"
            " .rar",
            archive,
            f"install one, or {BY_HAND_HINT}",
        )
    if isinstance(error, rarfile.PasswordRequired | rarfile.NoCrypto):
        return DataError("the archive is encrypted", archive, BY_HAND_HINT)
    if isinstance(error, rarfile.Error):
        # rarfile also runs a 7z that cannot read .rar
        return _damaged(
            archive, error, ", or install unrar if another program reads it"
        )
    return error
