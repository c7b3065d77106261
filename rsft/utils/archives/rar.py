"""Reading of .rar archives with the program `unrar`, which only lists and prints and writes no file."""

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
_HINT = "download the archive again, or extract it by hand if you trust it, and give the folder"


@dataclass(frozen=True)
class RarMember:
    """A member as `unrar lt` lists it.

    Attributes:
        name: path in the archive.
        type: "File", "Directory" or a kind of link.
        size: size in bytes.
        crc: CRC-32; None if it is not listed.
    """

    name: str
    type: str
    size: int
    crc: int | None


def is_rar(path: Path) -> bool:
    """Return whether a file begins like a .rar archive."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def has_unrar() -> bool:
    """Return whether the program `unrar` is installed."""
    return shutil.which("unrar") is not None


def list_rar_members(archive: Path) -> list[RarMember]:
    """List the members in the order of the archive.

    Args:
        archive: the archive.

    Returns:
        The members.

    Raises:
        DataError: `unrar` is not installed, or cannot list the archive.
    """
    if not has_unrar():
        hint = "install unrar, or extract the archive by hand if you trust it, and give a folder without the archive"
        raise DataError("a .rar archive needs the program unrar", archive, hint)
    with _start("lt", archive) as process:
        out, errors = (data.decode("utf-8", "replace") for data in process.communicate())
    members: list[dict[str, str]] = []
    for key, value in _FIELD.findall(out):
        if key == "Name":
            members.append({})
        if members:
            members[-1][key] = value
    if process.returncode or not members:
        last = (errors or out).strip().splitlines()[-1:]
        raise DataError(f"unrar failed: {' '.join(last) or process.returncode}", archive, _HINT)
    return [
        RarMember(
            fields["Name"],
            fields.get("Type", "unknown"),
            int(fields.get("Size", 0)),
            int(fields["CRC32"], 16) if "CRC32" in fields else None,
        )
        for fields in members
    ]


class RarStream:
    """The concatenated content of all files, as `unrar p` prints it; the process starts at the first `open`.

    Args:
        archive: the archive.

    Raises:
        DataError: at the end of the block, if `unrar` failed.
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
            while self.read(_CHUNK):  # discard the remaining output
                pass
        if kind is None and self._process.returncode:
            raise DataError(f"unrar failed: {self._process.returncode}", self.archive, _HINT)

    def open(self, start: int, size: int) -> IO[bytes]:
        """Open a range of the stream; ranges must be opened in ascending order.

        Args:
            start: position of the first byte, counted over all files.
            size: number of bytes.

        Returns:
            A binary file with the range.
        """
        if self._process is None:
            self._process = _start("p", self.archive)
        while self._position < start and self.read(min(_CHUNK, start - self._position)):
            pass
        return io.BufferedReader(_RangeReader(self, size))

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes; only the last read returns fewer."""
        assert self._process is not None and self._process.stdout is not None
        data = self._process.stdout.read(count)
        self._position += len(data)
        return data


class _RangeReader(io.RawIOBase):
    """The next `remaining` bytes of a stream."""

    def __init__(self, stream: RarStream, remaining: int) -> None:
        self.stream, self.remaining = stream, remaining

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase calls it with a memoryview
        data = self.stream.read(min(len(buffer), self.remaining))
        buffer[: len(data)] = data
        self.remaining -= len(data)
        return len(data)


def _start(command: str, archive: Path) -> subprocess.Popen[bytes]:
    """Start `unrar` without prompts, and without messages if it prints content; names are in UTF-8."""
    quiet, errors = ("-inul", subprocess.DEVNULL) if command == "p" else ("-idp", subprocess.PIPE)
    call = ["unrar", command, "-p-", "-y", quiet, "--", str(archive.absolute())]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=errors, env=os.environ | {"LC_ALL": "C.UTF-8"})
