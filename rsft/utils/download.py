"""Download of published files with checksums; an interrupted transfer is resumed.

pooch 1.9 starts an interrupted transfer again, and huggingface_hub 2.4 compares only
the size of a file with the one that the server states, so neither does both: resume a
transfer and verify its content.
"""

import hashlib
import os
import re
import time
from pathlib import Path

import platformdirs
import requests

from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.atomic_files import process_lock
from rsft.utils.operating_system import replace_path

_BLOCK = 1 << 16
_TIMEOUT = (10, 60)  # seconds to connect, seconds between two blocks
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
_TEMPORARY = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def download(
    url: str, target: Path, checksum: str | None, *, progress: Progress | None = None
) -> Path:
    """Download a file unless it exists; an incomplete one is kept and resumed.

    Args:
        url: address of the file.
        target: path of the file.
        checksum: SHA-256 in hex, complete or its leading digits, or MD5 after "md5:";
            None for no check.
        progress: called after each block with bytes and the file name.

    Returns:
        The path of the file.

    Raises:
        DataError: the existing or the downloaded file has another checksum, or the
            server cannot be reached.
        RequestError: another process is downloading the file.
    """
    if target.exists():
        _verify_checksum(target, checksum, "move it away and call again")
        return target
    busy = RequestError(
        "another process is downloading this file",
        target,
        "wait until it is done, or stop it",
    )
    part = target.with_name(target.name + ".part")
    hint = f"fetch {url} by hand and put it at {target}"
    if checksum:
        name, algorithm, digits = _parse_checksum(checksum)
        is_complete = len(digits) == 2 * hashlib.new(algorithm).digest_size
        hint += f"; its {name} {'is' if is_complete else 'begins with'} {digits}"
    with process_lock(target.with_name(f"{target.name}.lock"), lambda: busy):
        for attempt in range(_ATTEMPTS):
            try:
                _fetch(url, part, target.name, hint, progress)
                break
            except _TEMPORARY as error:
                if attempt + 1 == _ATTEMPTS:
                    raise DataError(
                        f"{target.name} cannot be downloaded: {root_cause(error)}",
                        url,
                        hint,
                    ) from error
            time.sleep(_PAUSE * 2**attempt)
        try:
            _verify_checksum(part, checksum, hint)
        except DataError:
            part.unlink()  # a wrong file cannot be resumed
            raise
        replace_path(part, target)
    return target


def _fetch(
    url: str, part: Path, name: str, hint: str, progress: Progress | None
) -> None:
    """Append the missing bytes to `part`, or download all of it."""
    received = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | (
        {"Range": f"bytes={received}-"} if received else {}
    )
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status = response.status_code
        # `part` is complete or another file; the checksum decides
        if status == 416 and received:
            return
        if status >= 500 or status == 429:
            raise requests.ConnectionError(
                f"the server answered {status} {response.reason}"
            )
        if status not in (200, 206):
            raise DataError(
                f"the server answered {status} {response.reason}", url, hint
            )
        if status == 206 and not response.headers.get("Content-Range", "").startswith(
            f"bytes {received}-"
        ):
            part.unlink()
            raise requests.ConnectionError(
                "the server sent another range than the requested one"
            )
        received = received if status == 206 else 0
        total = received + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if received else "wb") as file:
            for block in response.iter_content(_BLOCK):
                file.write(block)
                received += len(block)
                if progress is not None:
                    progress(received, max(total, received), name)
            file.flush()
            os.fsync(file.fileno())
        if received < total:
            raise requests.ConnectionError(
                f"it stopped after {received} of {total} bytes"
            )


def weights_dir() -> Path:
    """Return the folder of downloaded weights: $RSFT_WEIGHTS, or in the cache."""
    return Path(
        os.environ.get("RSFT_WEIGHTS")
        or platformdirs.user_cache_path("rsft") / "weights"
    )


def fetch_server_sha256(url: str) -> str | None:
    """Ask the server for the SHA-256 of a file in hex; None if it does not say it.

    huggingface_hub uses the same header: https://huggingface.co/docs/huggingface_hub,
    `get_hf_file_metadata`.
    """
    try:
        last = requests.head(url, allow_redirects=True, timeout=_TIMEOUT)
    except requests.RequestException:
        return None  # the download reports the fault
    tags = [
        response.headers.get("X-Linked-Etag", "").strip('"')
        for response in (*last.history, last)
    ]
    return next((tag for tag in tags if re.fullmatch("[0-9a-f]{64}", tag)), None)


def _verify_checksum(path: Path, checksum: str | None, hint: str) -> None:
    if checksum is None:
        return
    name, algorithm, digits = _parse_checksum(checksum)
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, algorithm).hexdigest()
    if not actual.startswith(digits):
        raise DataError(
            f"this is not the published file: its {name} is {actual}, not {digits}",
            path,
            hint,
        )


def _parse_checksum(checksum: str) -> tuple[str, str, str]:
    """Return the name of the algorithm for messages and for hashlib, and the digits."""
    is_md5 = checksum.startswith("md5:")
    if is_md5:
        return ("MD5", "md5", checksum[4:])
    return ("SHA-256", "sha256", checksum)


def root_cause(error: BaseException) -> str:
    """Return the message of the innermost cause, such as "Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
