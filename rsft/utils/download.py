"""Published files from the network: whole, as pinned by their checksum, and resumed where a transfer broke off."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import platformdirs
import requests

from rsft.errors import DataError
from rsft.types import Progress

_BLOCK = 1 << 16
_TIMEOUT = (10, 60)  # seconds to connect, seconds between two blocks
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, doubled before each further one


class _Interrupted(Exception):
    """The transfer stopped for a reason that may pass."""


_MAY_PASS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _Interrupted)


def download(
    url: str, target: Path, checksum: str | None, *, progress: Progress | None = None, pause: float = _PAUSE
) -> Path:
    """Fetch `url` to `target`, unless it is there already; bytes that came before are kept beside it as .part.

    Args:
        checksum: SHA-256 in hex, whole or its leading digits, or MD5 after "md5:"; None where none is published.

    Raises:
        DataError: a file at `target` or from the server that is not the one pinned, or no way to the server.
    """
    if target.exists():
        _check(target, checksum, "move it away and call again")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    by_hand = f"fetch {url} by hand and put it at {target}" + (f"; {_words(checksum)}" if checksum else "")
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


def weights_dir() -> Path:
    """Where downloaded weights are kept: $RSFT_WEIGHTS, or the user's cache folder."""
    return Path(os.environ.get("RSFT_WEIGHTS") or platformdirs.user_cache_path("rsft") / "weights")


def fetch_server_sha256(url: str) -> str | None:
    """The SHA-256 that the server states of a file it stores, as Hugging Face does; None where it states none.

    The header is what huggingface_hub goes by: https://huggingface.co/docs/huggingface_hub, `get_hf_file_metadata`.
    """
    try:
        last = requests.head(url, allow_redirects=True, timeout=_TIMEOUT)
    except requests.RequestException:
        return None  # the download tells what is wrong
    tags = [answer.headers.get("X-Linked-Etag", "").strip('"') for answer in (*last.history, last)]
    return next((tag for tag in tags if re.fullmatch("[0-9a-f]{64}", tag)), None)


def _check(path: Path, checksum: str | None, fix: str) -> None:
    if checksum is None:
        return
    algorithm, digits = _split(checksum)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise DataError(f"this is not the published file: {_words(f'{algorithm}:{found}')}, not {digits}", path, fix)


def _split(checksum: str) -> tuple[str, str]:
    algorithm, _, digits = checksum.rpartition(":")
    return algorithm or "sha256", digits


def _words(checksum: str) -> str:
    algorithm, digits = _split(checksum)
    whole = len(digits) == 2 * hashlib.new(algorithm).digest_size
    return f"its {'MD5' if algorithm == 'md5' else 'SHA-256'} {'is' if whole else 'begins with'} {digits}"


def _innermost(error: BaseException) -> str:
    """The cause that libraries have wrapped: "Connection refused" rather than a pool's description."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
