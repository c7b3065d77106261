"""Find out whether an HDF5 or netCDF file names other files to read from."""

import mmap
import os
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from rsft.utils.untrusted.documents import open_regular

_HDF5 = b"\x89HDF\r\n\x1a\n"
# bytes at which HDF5 may begin after other content
_STARTS = tuple(2**power for power in range(9, 40))
# a link message: version, flags, type 64 (external)
_LINK = re.compile(rb"\x01[\x08-\x0f\x18-\x1f]\x40")
_LINK_TYPE = 6  # of a message in the header of an object
_HEADERS = ((8, 2), (6, 1), (4, 1))
"""Bytes of the header of a message, and of the type in it: version 1 of the header of
an object, and version 2 with and without the order of creation."""
_LINK_PADDING = 255  # bytes after a link in its message
_BLOCK = b"FHDB"  # block of a heap, which contains links without headers
_BLOCK_BYTES = 2**16
# links in it can be compressed
_FILTERED_HEAP = re.compile(rb"FRHP\0..(?!\0\0)", re.DOTALL)
MAX_LINK_LIKE = 10_000
"""Largest number of byte sequences that may be links, but lead nowhere."""


def find_named_files(path: Path) -> str:
    """Return the way in which an HDF5 or netCDF file names other files.

    The whole file is searched once for each of its states. Raw data in other files
    (external storage) and virtual datasets are found by the addresses of the heaps with
    the names, external links by the form of their message.

    Returns:
        "" if it names none, or is no HDF5; else the reason for which it should not be
        opened.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    return _search(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _search(path: Path, size: int, mtime_ns: int) -> str:
    with open_regular(path) as file:
        start = file.read(16)
        if not start.startswith(_HDF5):
            for position in _STARTS:
                file.seek(position)
                if position < size and file.read(len(_HDF5)) == _HDF5:
                    return "HDF5 does not begin at its first byte"
            return ""
        if len(start) < 16:
            return "it is truncated"
        address_sizes = start[13:15] if start[8] < 2 else start[9:11]
        if address_sizes != b"\x08\x08":
            return "its addresses do not have 64 bits"
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # version and number of files
            if _refers_to(data, rb"HEAP", rb"\x01\0\0\0...."):
                return "it takes values from another file (external storage)"
            # version and class of the layout
            if _refers_to(data, rb"GCOL", rb"[\x04-\x0f]\x03"):
                return "it takes values from other files (virtual dataset)"
            if _FILTERED_HEAP.search(data):
                return "it has compressed links, which cannot be checked"
            return _find_links(data, {path.parent, path.resolve().parent, Path()})


def _refers_to(data: mmap.mmap, heap: bytes, before: bytes) -> bool:
    """Return whether the address of a heap follows the bytes of a certain message."""
    if data.find(heap) < 0:
        return False
    # messages may overlap
    pattern = re.compile(b"(?=" + before + b"(.{8}))", re.DOTALL)
    for match in pattern.finditer(data):
        address = int.from_bytes(match[1], "little")
        if data[address : address + len(heap)] == heap:
            return True
    return False


def _find_links(data: mmap.mmap, folders: Collection[Path]) -> str:
    """Return why the links in a file cannot be followed; "" if none leads out of it.

    The bytes of a link also occur by chance among values. So it lies where the HDF5
    library writes links, its names are printable, or the library would open a file of
    this name from one of the folders.
    """
    like_links = 0
    for match in _LINK.finditer(data):
        link = _read_link(data, match.start())
        if not link:
            continue
        names, size = link
        is_named = all(map(_is_printable, names)) or _exists(names[0], folders)
        if is_named or _is_message(data, match.start(), size):
            return "it has a link to another file"
        like_links += 1
        if like_links > MAX_LINK_LIKE:
            return "it has too many bytes that look like links"
    return ""


def _is_message(data: mmap.mmap, start: int, size: int) -> bool:
    """Return whether a link lies in the header of an object, or in a block of a heap.

    Args:
        data: the file.
        start: first byte of the link.
        size: number of its bytes.
    """
    if data.rfind(_BLOCK, max(0, start - _BLOCK_BYTES), start) >= 0:
        return True
    for length, width in _HEADERS:
        header = data[max(0, start - length) : start]
        kind = int.from_bytes(header[:width], "little")
        room = int.from_bytes(header[width : width + 2], "little")
        if kind == _LINK_TYPE and 0 <= room - size <= _LINK_PADDING:
            return True
    return False


def _read_link(data: mmap.mmap, start: int) -> tuple[tuple[bytes, bytes], int] | None:
    """Return the names of the file and the object, and the number of bytes of the link.

    It is None if this is no link message.
    """
    flags = data[start + 1]
    position = start + 3
    # order of creation, character set
    position += 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    # name of the link
    position += width + int.from_bytes(data[position : position + width], "little")
    size = int.from_bytes(data[position : position + 2], "little")
    end = position + 2 + size
    version = data[position + 2 : min(end, position + 4)]
    if len(version) < 2 or version[0] or not version[1]:  # a name follows version 0
        return None
    file, _, name = data[position + 3 : end].partition(b"\0")
    return (file, name.partition(b"\0")[0]), end - start


def _is_printable(text: bytes) -> bool:
    # a byte that is no text becomes a surrogate, which is not printable
    return bool(text) and text.decode(errors="surrogateescape").isprintable()


def _exists(name: bytes, folders: Collection[Path]) -> bool:
    """Return whether there is a file of this name, or of its last part."""
    for folder in map(os.fsencode, folders):
        for end in (name, os.path.basename(name)):  # noqa: PTH119
            if os.path.isfile(os.path.join(folder, end)):  # noqa: PTH113, PTH118
                return True
    return False
