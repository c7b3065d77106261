"""Open a source that is an archive, or contains archives, as a folder of plain files.

The archives are not trusted. tarfile, zipfile and rarfile only parse and decompress;
none of them extracts. rsft reads the bytes of regular files and writes them to paths
that it has checked, so no link, device, owner or permission of an archive reaches the
disk. The faults of tarfile's extraction filters (CVE-2025-4517, -4330, -4138,
CVE-2024-12718) need a link, or `extractall`, so `filter="data"` would add nothing.
"""

import logging
import lzma
import os
import re
import shlex
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import IO, Any, NamedTuple, NoReturn

import rarfile

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_folder, process_lock
from rsft.utils.operating_system import (
    describe_name_fault,
    fold_name,
    link_file,
    sync_all,
)
from rsft.utils.write_errors import explain_os_error

BY_HAND_HINT = "extract it by hand if you trust it, and give the folder"
DOWNLOAD_AGAIN_HINT = "download the archive again"
MAX_BYTES = 200 * 2**30
"""Default limit of the extracted size in bytes."""
MAX_MEMBERS = 2_000_000
"""Default limit of the number of files and folders."""

_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_MAX_HEADER = (
    2**16
)  # bytes of a long name or a pax header of a .tar, and of the pax headers of all members
_MAX_HEADERS = 8  # such headers of one member; tarfile reads each by recursion
_MAX_DEPTH = 64  # folders above a member
_MAX_NAME = 255  # bytes of the name of a file or folder, on all common systems
_MAX_PATH = 1024  # bytes of a path below the target folder
_MAX_PADDING = 2**20  # bytes after the end mark of a .tar
# members of a .rar archive that must be decompressed from its start to reach one of
# them
_MAX_SOLID = 100
_CHUNK = 2**20
_SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
_PART = re.compile(
    r"(?P<archive>.+\.(zip|rar|7z|tgz|tar(\.\w+)?))\.\d{3}|.+\.(part\d+\.rar|[rz]\d\d)",
    re.IGNORECASE,
)
_FAULTS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    rarfile.Error,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    LookupError,
    OverflowError,
)
_log = logging.getLogger(__name__)


def extract_archive(
    archive: Path,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    progress: Progress | None = None,
) -> Path:
    """Extract a .zip, .tar (also .gz, .bz2, .xz) or .rar archive into a new folder; the format is found by content.

    The files are written to a temporary folder, which gets its name when it is
    complete. The next write beside `target` removes the temporary folder of a killed
    process.

    Args:
        archive: the archive.
        target: the new folder.
        max_bytes: limit of the extracted size.
        max_members: limit of the number of files and folders.
        progress: called after each member with the MiB of the archive that have been
            read.

    Raises:
        RequestError: the archive does not exist, or `target` exists.
        DataError: the archive is damaged, encrypted, of another format or larger than a
            limit, or has a member that is a link or a device, leaves the target, or has
            the name of another member on some system. No file is kept.
        RsftError: the disk has no room for the files, or writing is not permitted. No
            file is kept.
    """
    if not archive.is_file():
        raise RequestError("the archive does not exist", archive, "check the path")
    if target.exists():
        raise RequestError(
            "the folder to extract to exists", target, "remove it, or choose another"
        )
    total = -(-archive.stat().st_size // 2**20)
    try:
        with atomic_folder(target) as folder, _translate_read_errors(archive):
            check = partial(
                _check_members,
                archive,
                max_bytes,
                max_members,
                shutil.disk_usage(folder).free,
            )
            if not _is_tar(
                archive
            ):  # the others list their members: check all before writing the first
                deque(check(), maxlen=0)
            for member in check():
                path = folder / member.path
                (path if member.is_folder else path.parent).mkdir(
                    parents=True, exist_ok=True
                )
                if not member.is_folder:
                    _write_file(member, path)
                if progress is not None:
                    progress(
                        min(-(-member.bytes_read // 2**20), total),
                        total,
                        f"extracting {archive.name}",
                    )
            # write the files to disk before the name that marks them as complete
            sync_all()
    except OSError as error:
        raise explain_os_error(error, target) from error
    return target


def is_archive_name(path: Path) -> bool:
    """Return whether a file has the suffix of an archive that `extract_archive` reads."""
    return _SUFFIX.search(path.name) is not None


def describe_part(path: Path) -> str:
    """Return how to use a file that is one part of a divided archive, by its name; "" for another file.

    Example:
        >>> describe_part(Path("FUSAR.zip.001"))
        'FUSAR.zip.001 is one part of an archive: join the parts with `cat FUSAR.zip.0*
        > FUSAR.zip`'
    """
    match = _PART.fullmatch(path.name)
    if match and match["archive"]:
        archive = shlex.quote(str(path.with_name(match["archive"])))
        return (
            f"{path} is one part of an archive: join the parts with `cat {archive}.0* >"
            f" {archive}`"
        )
    if match or (path.suffix.lower() == ".zip" and path.with_suffix(".z01").exists()):
        return (
            f"{path} is one part of an archive: extract all parts by hand with 7z, and"
            " give the folder"
        )
    return ""


@contextmanager
def open_source_tree(
    src: Path, root: Path, progress: Progress | None = None
) -> Iterator[Path]:
    """Open a source folder with its archives extracted.

    Archives in a folder are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz,
    .tar.bz2, .tar.xz, .rar. The yielded folder has the layout of `src`. It contains a
    folder in place of each archive, with the name of the archive without its suffix
    (with the suffix if that name exists), and links to all other files. `src` is never
    written to. Hidden files are left out. An archive is not extracted if its files
    exist beside it or in the folder of its name.

    The extracted files are in `.<root>.unpacked/` beside `root`, which is removed at
    the end of the block. The next build of `root` removes the files of a killed
    process.

    Args:
        src: the source: a folder or an archive.
        root: the chip store to build.
        progress: called while archives are extracted.

    Yields:
        The folder to read: `src` itself if it contains no archive.

    Raises:
        RequestError: another process builds `root`, or a folder in `src` cannot be
            read.
        DataError: an archive is damaged or not safe, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted.
    """
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    archives, links = ({Path(): src}, {}) if src.is_file() else _scan(src)
    if not archives and not work.exists():
        yield src
        return
    busy = RequestError(
        "another process is building this folder",
        root,
        "wait until it is done, or stop it",
    )
    with process_lock(root.parent / f"{work.name}.lock", lambda: busy):
        shutil.rmtree(work, ignore_errors=True)  # of a killed process
        try:
            try:
                for path, original in links.items() if archives else ():
                    (work / path).parent.mkdir(parents=True, exist_ok=True)
                    link_file(work / path, original.absolute())
            except OSError as error:
                raise RsftError(
                    error.strerror or str(error),
                    error.filename or work,
                    (
                        "free or repair the disk, or choose a --root on a disk that"
                        " supports links"
                    ),
                ) from error
            for path, archive in archives.items():
                extract_archive(archive, work / path, progress=progress)
            yield work if archives else src
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _scan(src: Path) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Return archives and all other files and linked folders of `src`, by path in the tree to build."""

    def refuse(error: OSError) -> NoReturn:
        raise RequestError(
            f"the folder cannot be read: {error.strerror}",
            error.filename,
            "change its permissions",
        )

    archives = dict[Path, Path]()
    links = dict[Path, Path]()
    for directory, folders, files in (
        os.walk(src, onerror=refuse) if src.is_dir() else ()
    ):
        folder = Path(directory)
        relative = Path(directory).relative_to(src)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        links |= {
            relative / name: folder / name
            for name in folders
            if (folder / name).is_symlink()
        }
        taken = {*folders, *names}
        for name in names:
            stem = _SUFFIX.sub("", name)
            if (
                stem == name
                or not (folder / name).is_file()
                or is_extracted(folder / name)
            ):
                links[relative / name] = folder / name
            else:
                unique = name if stem in taken else stem
                taken.add(unique)
                archives[relative / unique] = folder / name
    return archives, links


def is_extracted(archive: Path) -> bool:
    """Return whether all files of an archive exist, with their sizes, beside it or in the folder of its name."""
    for parent in (archive.parent, archive.with_name(_SUFFIX.sub("", archive.name))):
        with (
            suppress(DataError, OSError),
            _translate_read_errors(archive),
        ):  # the extraction reports the fault
            if all(
                (
                    path.is_dir()
                    if member.is_folder
                    else path.is_file() and path.stat().st_size == member.size
                )
                for member in _read_members(archive)
                for path in [parent / member.path]
            ):
                _log.warning("%s is not extracted: its files exist already", archive)
                return True
    return False


class _Member(NamedTuple):
    """A member of an archive.

    Attributes:
        name: its name as the archive states it.
        is_folder: whether it is a folder.
        is_other: whether it is neither a regular file nor a folder.
        size: size in bytes, as the archive states it.
        bytes_read: bytes of the archive up to the end of this member.
        open: opens the content of a file, which must be read before the next member is
            requested.
    """

    name: str
    is_folder: bool
    is_other: bool
    size: int
    bytes_read: int
    open: Callable[[], IO[bytes] | None]

    @property
    def path(self) -> PurePosixPath:
        """Path below the target folder, with / on every system."""
        return PurePosixPath(self.name.replace("\\", "/"))


def _check_members(
    archive: Path, max_bytes: int, max_members: int, free_bytes: int
) -> Iterator[_Member]:
    """Iterate over the members.

    Raises:
        DataError: they are too many or too large, or two of them are the same file on
            some system.
        RsftError: the disk has no room for them.
    """
    total = 0
    is_folder_at = {".": True}
    for count, member in enumerate(_read_members(archive), start=1):
        path = member.path
        if member.size < 0:
            raise ValueError(f"the size of {str(path)!r} is negative")
        total += member.size
        if count > max_members:
            raise DataError(
                f"the archive contains more than {max_members} members",
                archive,
                BY_HAND_HINT,
            )
        if total > max_bytes:
            raise DataError(
                f"the archive contains more than {max_bytes / 2**30:.3g} GiB",
                archive,
                BY_HAND_HINT,
            )
        if total > free_bytes:
            raise RsftError(
                (
                    f"the archive contains more than the {free_bytes / 2**30:.3g} GiB that"
                    " the disk has free"
                ),
                archive,
                "free some space, or choose another disk",
            )
        for place in (path, *path.parents):
            name = fold_name(str(place))
            is_folder = member.is_folder or place != path
            if name in is_folder_at and not (is_folder_at[name] and is_folder):
                raise DataError(
                    f"{str(path)!r} occurs twice in the archive", archive, BY_HAND_HINT
                )
            is_folder_at[name] = is_folder
        yield member


def _write_file(member: _Member, path: Path) -> None:
    """Write exactly as many bytes as the archive states, which `_check_members` has compared with the limits.

    Raises:
        EOFError: the content is shorter.
    """
    remaining = member.size
    content = member.open()
    assert content is not None  # true for every regular file
    with path.open("xb") as file, content:
        while remaining and (chunk := content.read(min(_CHUNK, remaining))):
            file.write(chunk)
            remaining -= len(chunk)
    if remaining:
        raise EOFError(f"{str(member.path)!r} is shorter than the archive states")


def _read_members(archive: Path) -> Iterator[_Member]:
    """Iterate over the members of an archive, in its order.

    Raises:
        DataError: the archive is encrypted or of another format, or has a member that
            is a link or a device, or whose name leaves the target folder or cannot
            exist on this system. See `_translate_read_errors` for the others.
    """
    if rarfile.is_rarfile(archive):
        members = _rar_members(archive)
    elif _is_tar(archive):
        members = _tar_members(archive)
    elif zipfile.is_zipfile(archive):
        members = _zip_members(archive)
    else:
        message = "the file is not a .zip, .tar or .rar archive"
        raise DataError(message, archive, describe_part(archive) or DOWNLOAD_AGAIN_HINT)
    for member in members:
        path = member.path
        if len(member.name) <= 80:
            name = member.name
        else:
            name = f"{member.name[:77]}..."
        if member.is_other:
            message = f"{name!r} is a link or a device"
        elif (
            path.is_absolute()
            or PureWindowsPath(member.name).drive
            or ".." in path.parts
            or "\0" in member.name
        ):
            message = f"{name!r} would leave the target folder"
        elif len(path.parts) > _MAX_DEPTH:
            message = f"{name!r} is nested in more than {_MAX_DEPTH} folders"
        elif (
            max(map(len, map(os.fsencode, path.parts)), default=0) > _MAX_NAME
            or len(os.fsencode(path)) > _MAX_PATH
        ):
            message = (
                f"the name {name!r} is longer than {_MAX_NAME} bytes, or its path than"
                f" {_MAX_PATH}"
            )
        elif any(map(describe_name_fault, path.parts)):
            message = f"Windows cannot hold the name {name!r}"
        else:
            yield member
            continue
        raise DataError(message, archive, BY_HAND_HINT)


class _BoundedTarInfo(tarfile.TarInfo):
    """A header of a .tar archive.

    Long names and pax headers are only read if they are few and short.
    """

    def _proc_member(self, archive: Any) -> tarfile.TarInfo:
        is_long = self.type in _LONG_HEADERS
        if is_long:
            archive.long_headers = getattr(archive, "long_headers", 0) + 1
        else:
            archive.long_headers = 0
        if is_long:
            shared = sum(
                len(key) + len(value) for key, value in archive.pax_headers.items()
            )
            if (
                max(self.size, shared) > _MAX_HEADER
                or archive.long_headers > _MAX_HEADERS
            ):
                message = (
                    f"a header of the archive has more than {_MAX_HEADER:,} bytes, or a"
                    f" member {_MAX_HEADERS}"
                )
                raise DataError(f"{message} headers", archive.name or "", BY_HAND_HINT)
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        member.pax_headers = {}  # tarfile keeps all members
        return member

    def _refuse_map(self, *arguments: Any) -> NoReturn:
        raise DataError(
            "the archive contains a sparse file, whose map may have any size",
            arguments[-1].name or "",
            BY_HAND_HINT,
        )

    _proc_sparse = _proc_gnusparse_10 = (
        _refuse_map  # other sparse files have their map in a header
    )


def _is_tar(archive: Path) -> bool:
    with (
        _translate_read_errors(archive),
        suppress(tarfile.TarError),
        tarfile.open(archive, tarinfo=_BoundedTarInfo),
    ):
        return True
    return False


def _tar_members(archive: Path) -> Iterator[_Member]:
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw, tarinfo=_BoundedTarInfo) as tar,
    ):
        for info in tar:
            is_other = not (info.isreg() or info.isdir())
            yield _Member(
                info.name,
                info.isdir(),
                is_other,
                info.size,
                raw.tell(),
                partial(tar.extractfile, info),
            )
        stream = tar.fileobj
        assert stream is not None
        if (
            stream.tell() == tar.offset
        ):  # tarfile takes the end of the file for the end mark
            raise tarfile.ReadError("it has no end mark")
        padding = stream.read(
            _MAX_PADDING
        )  # to the end, where the checksum of a compressed archive is
        if (
            padding.strip(b"\0") or len(padding) == _MAX_PADDING
        ):  # tarfile takes a damaged header for the end mark
            raise tarfile.ReadError("data follow its end mark")


def _zip_members(archive: Path) -> Iterator[_Member]:
    bytes_read = 0
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise DataError("the archive is encrypted", archive, BY_HAND_HINT)
            is_other = S_IFMT(info.external_attr >> 16) not in (0, S_IFREG, S_IFDIR)
            bytes_read += info.compress_size
            yield _Member(
                info.filename,
                info.is_dir(),
                is_other,
                info.file_size,
                bytes_read,
                partial(file.open, info),
            )


def _rar_members(archive: Path) -> Iterator[_Member]:
    bytes_read = 0
    blocks = list[int]()
    with rarfile.RarFile(
        archive, errors="strict", info_callback=lambda block: blocks.append(block.type)
    ) as file:
        members = file.infolist()
        if file.needs_password():
            raise rarfile.PasswordRequired
        if blocks[-1:] != [
            rarfile.RAR_BLOCK_ENDARC
        ]:  # rarfile takes the end of the file for the end mark
            raise rarfile.BadRarFile("it has no end mark")
        if file.is_solid() and len(members) > _MAX_SOLID:
            raise DataError(
                (
                    f"a solid .rar archive with {len(members)} members would be"
                    " decompressed once for each of them"
                ),
                archive,
                BY_HAND_HINT,
            )
        for info in members:
            bytes_read += info.compress_size
            is_other = info.is_symlink() or info.file_redir is not None
            yield _Member(
                info.filename,
                info.is_dir(),
                is_other,
                info.file_size,
                bytes_read,
                partial(file.open, info),
            )


@contextmanager
def _translate_read_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of the archive libraries into DataError.

    Raises:
        DataError: the archive is damaged or encrypted, it takes too much memory, or the
            program for .rar archives is missing.
    """
    try:
        yield
    except rarfile.RarCannotExec as error:
        message = (
            "a .rar archive needs the program unrar, or unar, or 7z with support for"
            " .rar"
        )
        raise DataError(message, archive, f"install one, or {BY_HAND_HINT}") from error
    except MemoryError as error:  # of xz: a header states the size of the dictionary
        message = "decompressing the archive takes more memory than is free"
        raise DataError(message, archive, BY_HAND_HINT) from error
    except (rarfile.PasswordRequired, rarfile.NoCrypto) as error:
        raise DataError("the archive is encrypted", archive, BY_HAND_HINT) from error
    except (*_FAULTS, OSError) as error:
        if isinstance(error, OSError) and (
            error.errno not in (None, EINVAL) or error.filename is not None
        ):
            raise  # the disk is at fault, not the archive
        hint = DOWNLOAD_AGAIN_HINT  # rarfile also runs a 7z that cannot read .rar
        hint += (
            ", or install unrar if another program reads it"
            if isinstance(error, rarfile.Error)
            else ""
        )
        raise DataError(
            f"the archive is truncated or damaged: {error}", archive, hint
        ) from error
