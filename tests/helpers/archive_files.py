"""Write small archives, valid and malicious."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

Files = dict[str, bytes] | list[tuple[str, bytes]]
"""Content by name; a list can hold a name twice."""


def make_tar(
    path: Path, files: Files, mode: str = "w", special: tarfile.TarInfo | None = None
) -> Path:
    """Write a .tar archive of files, and of one `special` member at its end."""
    with tarfile.open(path, mode) as tar:
        for name, data in _pairs(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if special is not None:
            tar.addfile(special)
    return path


def make_zip(path: Path, files: Files, mode: int = stat.S_IFREG) -> Path:
    """Write a .zip archive; `mode` is the kind of file that its last member claims to
    be."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in _pairs(files):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (
                (mode | 0o644) << 16 if name == _pairs(files)[-1][0] else 0
            )
            file.writestr(info, data)
    return path


def make_rar(
    path: Path,
    files: Files,
    *,
    is_compressed: bool = False,
    sizes: dict[str, int] | None = None,
    link: int = 0,
    is_encrypted: bool = False,
    is_solid: bool = False,
) -> Path:
    """Write a .rar archive (version 5).

    Args:
        path: the file.
        files: content by name; a name that ends with / is a folder.
        is_compressed: whether the content claims to be compressed.
        sizes: sizes that the headers state, instead of those of the content.
        link: kind of link that the last member claims to be; 1: symbolic link, 4: hard
            link, 5: copy.
        is_encrypted: whether the last member claims to be encrypted.
        is_solid: whether the archive claims to be solid.
    """
    blocks = [_rar_block(1, b"", _number(4 if is_solid else 0))]
    for name, data in _pairs(files):
        extra = b""
        is_last = name == _pairs(files)[-1][0]
        encoded = name.rstrip("/").encode()
        if link and is_last:
            extra += _rar_record(5, _number(link) + _number(0) + _number(4) + b"good")
        if is_encrypted and is_last:
            extra += _rar_record(1, _number(0) + _number(0) + b"\x0f" + bytes(32))
        size = (sizes or {}).get(name, len(data))
        method = 1 << 7 if is_compressed else 0
        fields = [1 if name.endswith("/") else 4, size, 0o100644]
        body = b"".join(map(_number, fields))
        body += b"" if name.endswith("/") else zlib.crc32(data).to_bytes(4, "little")
        body += _number(method) + _number(1) + _number(len(encoded)) + encoded
        blocks.append(_rar_block(2, extra, body, data))
    blocks.append(_rar_block(5, b"", _number(0)))
    path.write_bytes(b"Rar!\x1a\x07\x01\x00" + b"".join(blocks))
    return path


def _pairs(files: Files) -> list[tuple[str, bytes]]:
    return list(files.items()) if isinstance(files, dict) else files


def _rar_block(kind: int, extra: bytes, body: bytes, data: bytes = b"") -> bytes:
    flags = (1 if extra else 0) | (2 if kind == 2 else 0)
    header = _number(kind) + _number(flags)
    header += (_number(len(extra)) if extra else b"") + (
        _number(len(data)) if kind == 2 else b""
    )
    header += body + extra
    sized = _number(len(header)) + header
    return zlib.crc32(sized).to_bytes(4, "little") + sized + data


def _rar_record(kind: int, content: bytes) -> bytes:
    record = _number(kind) + content
    return _number(len(record)) + record


def _number(value: int) -> bytes:
    """Return a number of variable length: seven bits per byte, lowest first."""
    encoded = b""
    while value > 127:
        encoded = encoded + bytes([value & 127 | 128])
        value = value >> 7
    return encoded + bytes([value])
