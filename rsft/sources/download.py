"""Published files from the network: whole, as pinned by their SHA-256, and resumed where a transfer broke off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import requests

from rsft.errors import DataError
from rsft.files import sha256

Progress = Callable[[int, int, str], None]  # bytes so far, bytes in all, file name

_BLOCK = 1 << 16
_TIMEOUT = (10, 60)  # seconds to connect, seconds between two blocks
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, doubled before each further one


class _Interrupted(Exception):
    """The transfer stopped for a reason that may pass."""


_MAY_PASS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _Interrupted)


def download(url: str, target: Path, checksum: str, *, progress: Progress | None = None, pause: float = _PAUSE) -> Path:
    """Fetch `url` to `target`, unless it is there already; bytes that came before are kept beside it as .part.

    Args:
        checksum: SHA-256 of the whole file, in hex.

    Raises:
        DataError: a file at `target` or from the server that is not the one pinned, or no way to the server.
    """
    if target.exists():
        _check(target, checksum, "move it away and call again")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    by_hand = f"fetch {url} by hand and put it at {target}; its SHA-256 is {checksum}"
    for attempt in range(_ATTEMPTS):
        try:
            _fetch(url, part, target.name, by_hand, progress)
            break
        except _MAY_PASS as error:
            if attempt + 1 == _ATTEMPTS:
                raise DataError(f"{target.name} cannot be downloaded: {_innermost(error)}", url, by_hand) from error
        time.sleep(pause * 2**attempt)
    try:
        _check(part, checksum, by_hand)
    except DataError:
        part.unlink()  # nothing to resume from
        raise
    part.replace(target)
    return target


def _fetch(url: str, part: Path, name: str, by_hand: str, progress: Progress | None) -> None:
    """Append what `part` lacks, or all of it where the server knows no ranges."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status = response.status_code
        if status == 416 and have:  # `part` is whole already, or of another file, as the checksum will tell
            return
        if status >= 500 or status == 429:
            raise _Interrupted(f"the server answered {status} {response.reason}")
        if status not in (200, 206):
            raise DataError(f"the server answered {status} {response.reason}", url, by_hand)
        if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _Interrupted("the server sent another range than the one asked for")
        have = have if status == 206 else 0
        total = have + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if have else "wb") as file:
            for block in response.iter_content(_BLOCK):
                file.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, max(total, have), name)
            file.flush()
            os.fsync(file.fileno())
        if have < total:
            raise _Interrupted(f"it broke off after {have} of {total} bytes")


def _check(path: Path, checksum: str, fix: str) -> None:
    found = sha256(path)
    if found != checksum:
        raise DataError(f"this is not the published file: its SHA-256 is {found}, not {checksum}", path, fix)


def _innermost(error: BaseException) -> str:
    """The cause that libraries have wrapped: "Connection refused" rather than a pool's description."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
