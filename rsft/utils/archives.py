"""Open a source that is an archive, or contains archives, as a folder of plain files.

Extraction of untrusted archives into a folder that appears complete or not at all.

Reading of archives from untrusted sources: the members of a .zip, .tar or .rar file, and what they may be.

The archive libraries only parse and decompress; none of them extracts. rsft reads the bytes of regular files and writes
them to paths that it has checked, so no link, device, owner or permission of an archive reaches the disk. The faults of
tarfile's extraction filters (CVE-2025-4517, -4330, -4138, CVE-2024-12718) need a link, or `extractall`. `filter="data"`
would therefore add nothing, and Python 3.11.0 to 3.11.3, which lack it, are as safe.
"""

from __future__ import annotations

import hashlib
import logging
import lzma
import os
import re
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFMT, S_ISDIR, S_ISREG
from typing import IO, Any, NamedTuple, NoReturn

import rarfile

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder, process_lock, sync_all
from rsft.utils.write_errors import explain_os_error

BY_HAND_HINT = "extract it by hand if you trust it, and give the folder"
DOWNLOAD_AGAIN_HINT = "download the archive again"

_IS_WINDOWS = os.name == "nt"
_LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_MAX_HEADER = 2**20  # bytes of a long name or a pax header of a .tar
_MAX_HEADERS = 8  # such headers of one member; tarfile reads each by recursion
_MAX_GLOBAL = 2**20  # letters of the pax headers of all members
_MAX_DEPTH = 64  # folders above a member
_MAX_NAME = 255  # bytes of the name of a file or folder, on all common systems
_MAX_PATH = 1024  # bytes of a path below the target folder
_MAX_PADDING = 2**20  # bytes after the end mark of a .tar
_MAX_SOLID = 100  # members of a .rar archive that must be decompressed from its start to reach one of them
_DIGITS = re.compile(rb"[0-9]{65}")
_NOT_ON_WINDOWS = re.compile(  # names that Windows changes, refuses or opens as a device
    r'[<>:"|?*\x00-\x1f]|[ .]$|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\.|$)', re.IGNORECASE
)
_FAULTS = (
    *(tarfile.TarError, zipfile.BadZipFile, rarfile.Error, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, LookupError, OverflowError),
)


class _PushedBack:
    """A file whose next read returns bytes that were read before."""

    def __init__(self, file: Any, data: bytes) -> None:
        self.file, self.data = file, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def read(self, size: int) -> bytes:
        """Read the next bytes."""
        data, self.data = self.data or self.file.read(size), b""
        return data


class _BoundedTarInfo(tarfile.TarInfo):
    """A header of a .tar archive. Long names and pax headers are only read if they are short: they may have GiB."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _LONG_HEADERS:
            self._check_header(archive)
        depth = getattr(archive, "header_depth", 0)
        archive.header_depth = depth + (self.type in _LONG_HEADERS)  # type: ignore[attr-defined]
        try:
            member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        finally:
            archive.header_depth = depth  # type: ignore[attr-defined]
        member.pax_headers = {}  # tarfile keeps all members
        return member

    def _proc_pax(self, archive: Any) -> tarfile.TarInfo:
        file = archive.fileobj
        data = file.read(self._block(self.size))  # type: ignore[attr-defined]
        if _DIGITS.search(data):  # the time of tarfile grows with the square of their number (CVE-2024-6232)
            raise DataError(
                "a header of the archive has a number of more than 64 digits", archive.name or "", BY_HAND_HINT
            )
        archive.fileobj = _PushedBack(file, data)
        try:
            member: tarfile.TarInfo = super()._proc_pax(archive)  # type: ignore[misc]
        finally:
            archive.fileobj = file
        return member

    def _check_header(self, archive: tarfile.TarFile) -> None:
        message = ""
        if self.size > _MAX_HEADER:
            message = f"a header of the archive has {self.size:,} bytes; the limit is {_MAX_HEADER:,}"
        elif getattr(archive, "header_depth", 0) >= _MAX_HEADERS:
            message = f"a member of the archive has more than {_MAX_HEADERS} headers"
        elif sum(map(len, archive.pax_headers.values())) > _MAX_GLOBAL:
            message = f"the headers for all members have more than {_MAX_GLOBAL:,} letters"
        if message:
            raise DataError(message, archive.name or "", BY_HAND_HINT)

    def _refuse_map(self, *arguments: Any) -> NoReturn:
        archive = next(value for value in arguments if isinstance(value, tarfile.TarFile))
        message = "the archive contains a sparse file, whose map may have any size"
        raise DataError(message, archive.name or "", BY_HAND_HINT)

    _proc_sparse = _proc_gnusparse_10 = _refuse_map  # other sparse files have their map in a header


def is_tar(archive: Path) -> bool:
    """Return whether a file is a .tar archive, plain or compressed.

    Args:
        archive: path of the file.

    Raises:
        DataError: its first header is too large, or its decompression takes more memory than is free.
    """
    with translate_read_errors(archive), suppress(tarfile.TarError), tarfile.open(archive, tarinfo=_BoundedTarInfo):
        return True
    return False


class ArchiveMember(NamedTuple):
    """A regular file or a folder in an archive.

    Attributes:
        path: path below the target folder, with / on every system.
        is_folder: whether it is a folder.
        size: size in bytes, as the archive states it.
        bytes_read: bytes of the archive up to the end of this member.
        open: opens the content of a file, which must be read before the next member is requested.
    """

    path: PurePosixPath
    is_folder: bool
    size: int
    bytes_read: int
    open: Callable[[], IO[bytes]]


@contextmanager
def translate_read_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of the archive libraries into DataError.

    Args:
        archive: the archive, for the error message.

    Yields:
        None.

    Raises:
        DataError: the archive is damaged or encrypted, it takes too much memory, or the program for .rar archives is
            missing.
    """
    try:
        yield
    except rarfile.RarCannotExec as error:
        message = "a .rar archive needs the program unrar, or unar, or 7z with support for .rar"
        raise DataError(message, archive, f"install one, or {BY_HAND_HINT}") from error
    except MemoryError as error:  # of xz: a header states the size of the dictionary
        message = "decompressing the archive takes more memory than is free"
        raise DataError(message, archive, BY_HAND_HINT) from error
    except (rarfile.PasswordRequired, rarfile.NoCrypto) as error:
        raise DataError("the archive is encrypted", archive, BY_HAND_HINT) from error
    except (*_FAULTS, OSError) as error:
        if isinstance(error, OSError) and (error.errno not in (None, EINVAL) or error.filename is not None):
            raise  # the disk is at fault, not the archive
        hint = DOWNLOAD_AGAIN_HINT  # rarfile also runs a 7z that cannot read .rar
        hint += ", or install unrar if another program reads it" if isinstance(error, rarfile.Error) else ""
        raise DataError(f"the archive is truncated or damaged: {error}", archive, hint) from error


def iterate_members(archive: Path) -> Iterator[ArchiveMember]:
    """Iterate over the members of a .zip, .tar (also .gz, .bz2, .xz) or .rar archive; its format is found by content.

    Args:
        archive: the archive.

    Yields:
        The members in the order of the archive.

    Raises:
        DataError: the archive is encrypted or of another format, or has a member that is a link or a device, or whose
            name leaves the target folder or cannot exist on this system. See `translate_read_errors` for the others.
    """
    if rarfile.is_rarfile(archive):
        yield from _rar_members(archive)
    elif is_tar(archive):
        yield from _tar_members(archive)
    elif zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        raise DataError("the file is not a .zip, .tar or .rar archive", archive, DOWNLOAD_AGAIN_HINT)


def _tar_members(archive: Path) -> Iterator[ArchiveMember]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, tarinfo=_BoundedTarInfo) as tar:
        for info in tar:
            path = _safe_path(archive, info.name, is_other=not (info.isreg() or info.isdir()))
            yield ArchiveMember(path, info.isdir(), info.size, raw.tell(), partial(_open_tar_member, tar, info))
        stream = tar.fileobj
        assert stream is not None
        if stream.tell() == tar.offset:  # tarfile takes the end of the file for the end mark
            raise tarfile.ReadError("it has no end mark")
        padding = stream.read(_MAX_PADDING)  # to the end, where the checksum of a compressed archive is
        if padding.strip(b"\0") or len(padding) == _MAX_PADDING:  # tarfile takes a damaged header for the end mark
            raise tarfile.ReadError("data follow its end mark")


def _open_tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None  # true for every regular file
    return stream


def _zip_members(archive: Path) -> Iterator[ArchiveMember]:
    bytes_read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise DataError("the archive is encrypted", archive, BY_HAND_HINT)
            mode, bytes_read = info.external_attr >> 16, bytes_read + info.compress_size
            is_other = bool(S_IFMT(mode)) and not (S_ISREG(mode) or S_ISDIR(mode))
            path = _safe_path(archive, info.filename, is_other)
            yield ArchiveMember(path, info.is_dir(), info.file_size, bytes_read, partial(file.open, info))


def _rar_members(archive: Path) -> Iterator[ArchiveMember]:
    bytes_read, blocks = 0, list[int]()
    with rarfile.RarFile(archive, errors="strict", info_callback=lambda block: blocks.append(block.type)) as file:
        members = file.infolist()
        if file.needs_password():
            raise rarfile.PasswordRequired
        if blocks[-1:] != [rarfile.RAR_BLOCK_ENDARC]:  # rarfile takes the end of the file for the end mark
            raise rarfile.BadRarFile("it has no end mark")
        if file.is_solid() and len(members) > _MAX_SOLID:
            message = f"a solid .rar archive with {len(members)} members would be decompressed once for each of them"
            raise DataError(message, archive, BY_HAND_HINT)
        for info in members:
            bytes_read += info.compress_size
            path = _safe_path(archive, info.filename, info.is_symlink() or info.file_redir is not None)
            yield ArchiveMember(path, info.is_dir(), info.file_size, bytes_read, partial(file.open, info))


def _safe_path(archive: Path, name: str, is_other: bool) -> PurePosixPath:
    """Return the path of a member below the target folder.

    Raises:
        DataError: the member is not a file or folder, or its name leaves the target or cannot exist on this system.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if is_other:
        message = f"{_shorten(name)!r} is a link or a device"
    elif path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name:
        message = f"{_shorten(name)!r} would leave the target folder"
    elif len(path.parts) > _MAX_DEPTH:
        message = f"{_shorten(name)!r} is nested in more than {_MAX_DEPTH} folders"
    elif any(len(os.fsencode(part)) > _MAX_NAME for part in path.parts) or len(os.fsencode(str(path))) > _MAX_PATH:
        message = f"the name {_shorten(name)!r} is longer than {_MAX_NAME} bytes, or its path than {_MAX_PATH}"
    elif _IS_WINDOWS and any(_NOT_ON_WINDOWS.search(part) for part in path.parts):
        message = f"Windows cannot hold the name {name!r}"
    else:
        return path
    raise DataError(message, archive, BY_HAND_HINT)


def _shorten(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:77]}..."


MAX_BYTES = 200 * 2**30
"""Default limit of the extracted size in bytes."""
MAX_MEMBERS = 2_000_000
"""Default limit of the number of files and folders."""

_CHUNK = 2**20


def extract_archive(
    archive: Path,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    progress: Progress | None = None,
) -> Path:
    """Extract a .zip, .tar (also .gz, .bz2, .xz) or .rar archive into a new folder; the format is found by content.

    The files are written to a temporary folder, which gets its name when it is complete. The next write beside `target`
    removes the temporary folder of a killed process.

    Args:
        archive: the archive.
        target: the new folder.
        max_bytes: limit of the extracted size.
        max_members: limit of the number of files and folders.
        progress: called after each member with the MiB of the archive that have been read.

    Returns:
        The folder.

    Raises:
        RequestError: the archive does not exist, or `target` exists.
        DataError: the archive is damaged, encrypted, of another format or larger than a limit, or has a member that is
            a link or a device, leaves the target, or has the name of another member on some system. No file is kept.
        RsftError: the disk has no room for the files, or writing is not permitted. No file is kept.
    """
    if not archive.is_file():
        raise RequestError("the archive does not exist", archive, "check the path")
    if target.exists():
        raise RequestError("the folder to extract to exists", target, "remove it, or choose another")
    total = _mebibytes(archive.stat().st_size)
    try:
        with atomic_folder(target) as folder, translate_read_errors(archive):
            check = partial(_check_members, archive, max_bytes, max_members, shutil.disk_usage(folder).free)
            if not is_tar(archive):  # the others list their members: check all before writing the first
                deque(check(), maxlen=0)
            for member in check():
                _write_member(member, folder / member.path)
                if progress is not None:
                    progress(min(_mebibytes(member.bytes_read), total), total, f"extracting {archive.name}")
            sync_all()  # write the files to disk before the name that marks them as complete
    except OSError as error:
        raise explain_os_error(error, target) from error
    return target


def _check_members(archive: Path, max_bytes: int, max_members: int, free_bytes: int) -> Iterator[ArchiveMember]:
    """Iterate over the members.

    Raises:
        DataError: they are too many or too large, or two of them are the same file on some system.
        RsftError: the disk has no room for them.
    """
    total, is_folder_at = 0, {".": True}
    for count, member in enumerate(iterate_members(archive), start=1):
        if member.size < 0:
            raise ValueError(f"the size of {str(member.path)!r} is negative")
        total += member.size
        if count > max_members:
            raise DataError(f"the archive contains more than {max_members} members", archive, BY_HAND_HINT)
        if total > max_bytes:
            raise DataError(f"the archive contains more than {_gibibytes(max_bytes)}", archive, BY_HAND_HINT)
        if total > free_bytes:
            message = f"the archive contains more than the {_gibibytes(free_bytes)} that the disk has free"
            raise RsftError(message, archive, "free some space, or choose another disk")
        for path in (member.path, *member.path.parents):
            name, is_folder = _comparable(str(path)), member.is_folder or path != member.path
            if name in is_folder_at and not (is_folder_at[name] and is_folder):
                raise DataError(f"{str(member.path)!r} occurs twice in the archive", archive, BY_HAND_HINT)
            is_folder_at[name] = is_folder
        yield member


def _comparable(name: str) -> str:
    """Return a text that is the same for names that are one file on systems that ignore case or Unicode composition."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _write_member(member: ArchiveMember, path: Path) -> None:
    """Write exactly as many bytes as the archive states, which `_check_members` has compared with the limits.

    Raises:
        EOFError: the content is shorter.
    """
    if member.is_folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = member.size
    with path.open("xb") as file, member.open() as content:
        while remaining and (chunk := content.read(min(_CHUNK, remaining))):
            file.write(chunk)
            remaining -= len(chunk)
    if remaining:
        raise EOFError(f"{str(member.path)!r} is shorter than the archive states")


def _mebibytes(count: int) -> int:
    return -(-count // 2**20)


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"


_SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
_log = logging.getLogger(__name__)


@contextmanager
def open_source_tree(src: Path, root: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Open a source folder with its archives extracted.

    Archives in a folder are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .rar. The
    yielded folder has the layout of `src`. It contains a folder in place of each archive, with the name of the archive
    without its suffix (with the suffix if that name exists), and links to all other files. `src` is never written to.
    Hidden files are left out. An archive is not extracted if its files exist beside it or in the folder of its name.

    The extracted files are in `.<root>.unpacked/` beside `root`, which is removed at the end of the block. After an
    interruption the folder stays, and the next build reuses the archives that were extracted completely.

    Args:
        src: the source: a folder or an archive.
        root: the chip store to build.
        progress: called while archives are extracted.

    Yields:
        The folder to read: `src` itself if it contains no archive.

    Raises:
        RequestError: another process builds `root`, or a folder in `src` cannot be read.
        DataError: an archive is damaged or not safe, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted; extracted archives stay.
    """
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    archives, links = ({Path(): src}, {}) if src.is_file() else _scan(src)
    if not archives and not work.exists():
        yield src
        return
    busy = RequestError("another process is building this folder", root, "wait until it is done, or stop it")
    with process_lock(root.parent / f"{work.name}.lock", lambda: busy):
        build = work / _fingerprint(src, archives, links)
        try:
            if work.exists() and not build.exists():  # of another source, or of an earlier state of this one
                _log.warning("%s: removing the files that were extracted for another build", work)
                shutil.rmtree(work)
            yield _build_tree(build / "content", archives, links, progress) if archives else src
        except (RequestError, DataError):  # the same call would fail again
            shutil.rmtree(work, ignore_errors=True)
            raise
        if work.exists():
            shutil.rmtree(work)


def _scan(src: Path) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Return archives and all other files and linked folders of `src`, by path in the tree to build."""
    archives: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    for directory, folders, files in os.walk(src, onerror=_raise_unreadable) if src.is_dir() else ():
        folder, relative = Path(directory), Path(directory).relative_to(src)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        links |= {relative / name: folder / name for name in folders if (folder / name).is_symlink()}
        taken = {*folders, *names}
        for name in names:
            stem = _SUFFIX.sub("", name)
            if stem == name or not (folder / name).is_file() or _is_extracted(folder / name, folder / stem):
                links[relative / name] = folder / name
            else:
                unique = name if stem in taken else stem
                taken.add(unique)
                archives[relative / unique] = folder / name
    return archives, links


def _is_extracted(archive: Path, folder: Path) -> bool:
    """Return whether all files of an archive exist, with their sizes, beside it or in the `folder` of its name."""
    for parent in (archive.parent, folder):
        try:
            with translate_read_errors(archive):
                if all(_exists(parent / member.path, member) for member in iterate_members(archive)):
                    _log.warning("%s is not extracted: its files exist already", archive)
                    return True
        except (DataError, OSError):  # the extraction reports the fault
            return False
    return False


def _exists(path: Path, member: ArchiveMember) -> bool:
    return path.is_dir() if member.is_folder else path.is_file() and path.stat().st_size == member.size


def _fingerprint(src: Path, archives: dict[Path, Path], links: dict[Path, Path]) -> str:
    """Return a hash that changes if the files of an interrupted build cannot be reused."""
    states = [(str(path), file.stat().st_size, file.stat().st_mtime_ns) for path, file in archives.items()]
    return hashlib.sha256(repr((str(src.resolve()), states, [str(path) for path in links])).encode()).hexdigest()[:16]


def _build_tree(content: Path, archives: dict[Path, Path], links: dict[Path, Path], progress: Progress | None) -> Path:
    try:
        for path, original in links.items():
            (content / path).parent.mkdir(parents=True, exist_ok=True)
            if not (content / path).is_symlink():
                (content / path).symlink_to(original.absolute())
    except OSError as error:
        hint = "free or repair the disk, or choose a --root on a disk that supports links"
        raise RsftError(error.strerror or str(error), error.filename or content, hint) from error
    for path, archive in archives.items():
        if not (content / path).exists():
            extract_archive(archive, content / path, progress=progress)
    return content


def _raise_unreadable(error: OSError) -> NoReturn:
    raise RequestError(f"the folder cannot be read: {error.strerror}", error.filename, "change its permissions")
