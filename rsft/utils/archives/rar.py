"""Archives of the kind .rar, through the program `unrar`. It lists and prints; no file is written by it."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rsft.errors import DataError

_MAGIC = b"Rar!\x1a\x07"
_CHUNK = 2**20
_FIELD = re.compile(r"^ *(Name|Type|Size|CRC32): (.*?)\r?$", re.MULTILINE)
_FIX = "download the archive again, or unpack it by hand if you trust it, and name the folder"


@dataclass(frozen=True)
class RarMember:
    """What `unrar lt` says of a member; `kind` is File, Directory or a kind of link."""

    name: str
    kind: str
    size: int
    crc: int | None


def is_rar(path: Path) -> bool:
    """Whether the file begins like a .rar."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def has_unrar() -> bool:
    """Whether the program is installed."""
    return shutil.which("unrar") is not None


def list_rar_members(archive: Path) -> list[RarMember]:
    """The members, in the order of the archive.

    Raises:
        DataError: `unrar` is not installed, or cannot list the archive.
    """
    if not has_unrar():
        fix = "install it, or unpack it by hand if you trust it, and name a folder without the archive"
        raise DataError("a .rar archive needs the program unrar", archive, fix)
    with _start("lt", archive) as process:
        out, complaint = (data.decode("utf-8", "replace") for data in process.communicate())
    found: list[dict[str, str]] = []
    for key, value in _FIELD.findall(out):
        if key == "Name":
            found.append({})
        if found:
            found[-1][key] = value
    if process.returncode or not found:
        last = (complaint or out).strip().splitlines()[-1:]
        raise DataError(f"unrar gave up: {' '.join(last) or process.returncode}", archive, _FIX)
    return [
        RarMember(
            fields["Name"],
            fields.get("Type", "of no kind"),
            int(fields.get("Size", 0)),
            int(fields["CRC32"], 16) if "CRC32" in fields else None,
        )
        for fields in found
    ]


class RarStream:
    """The content of all files, one after the other, as one run of `unrar p` prints it, from the first `open` on.

    Raises:
        DataError: at the end of the block, where `unrar` found a fault.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._process: subprocess.Popen[bytes] | None = None
        self._position = 0

    def __enter__(self) -> RarStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is None:
            return
        with self._process:
            if kind is not None:
                self._process.kill()
            while self.read(_CHUNK):  # what nobody asked for
                pass
        if kind is None and self._process.returncode:
            raise DataError(f"unrar gave up: {self._process.returncode}", self.archive, _FIX)

    def open(self, start: int, size: int) -> IO[bytes]:
        """The `size` bytes from `start`, counted over all files; only ever forward."""
        if self._process is None:
            self._process = _start("p", self.archive)
        while self._position < start and self.read(min(_CHUNK, start - self._position)):
            pass
        return io.BufferedReader(_Part(self, size))

    def read(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        assert self._process is not None and self._process.stdout is not None
        data = self._process.stdout.read(count)
        self._position += len(data)
        return data


class _Part(io.RawIOBase):
    """The next `left` bytes of a content."""

    def __init__(self, content: RarStream, left: int) -> None:
        self.content, self.left = content, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as RawIOBase calls it
        data = self.content.read(min(len(buffer), self.left))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


def _start(command: str, archive: Path) -> subprocess.Popen[bytes]:
    """`unrar` without questions and, where it prints content, without a word; names come in UTF-8."""
    quiet, errors = ("-inul", subprocess.DEVNULL) if command == "p" else ("-idp", subprocess.PIPE)
    call = ["unrar", command, "-p-", "-y", quiet, "--", str(archive.absolute())]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=errors, env=os.environ | {"LC_ALL": "C.UTF-8"})
