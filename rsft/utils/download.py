"""Download of published files with checksums; an interrupted transfer is resumed.

pooch 1.9 starts an interrupted transfer again, and huggingface_hub 2.4 compares only
the size of a file with the one that the server states, so neither does both: resume a
transfer and verify its content.
"""

import hashlib
import os
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

import requests

from rsft.errors import DataError
from rsft.types import Progress
from rsft.utils.atomic_files import process_lock
from rsft.utils.operating_system import replace_path

MAX_DOWNLOAD_BYTES = 2**34
"""Largest file without a published size: 16 GiB."""

_BLOCK = 1 << 16
_BLOCK_SECONDS = 60.0
"""Longest time for a block, whatever the server sends meanwhile: the smallest rate is 1
KiB/s."""
_TIMEOUT = (10, _BLOCK_SECONDS)  # seconds to connect, seconds between two packets
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
_TEMPORARY = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def download(
    url: str,
    target: Path,
    checksum: str | None,
    *,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file unless it exists; an incomplete one is kept and resumed.

    Args:
        url: address of the file.
        target: path of the file.
        checksum: SHA-256 in hex, complete or its leading digits, or MD5 after "md5:";
            None for no check.
        size: published size in bytes, at which the transfer stops; None for
            `MAX_DOWNLOAD_BYTES`.
        progress: called after each block with bytes and the file name.

    Returns:
        The path of the file.

    Raises:
        DataError: the existing or the downloaded file has another checksum or size, or
            the server cannot be reached, is too slow, or answers with nonsense.
        RequestError: another process is downloading the file.
    """
    if target.exists():
        _verify_checksum(target, checksum, "move it away and call again")
        return target
    part = target.with_name(target.name + ".part")
    hint = f"fetch {url} by hand and put it at {target}"
    if checksum:
        algorithm, digits = _split_checksum(checksum)
        hint += f"; its {algorithm} begins with {digits}"
    lock_file = target.with_name(f"{target.name}.lock")
    with process_lock(lock_file, target, "is downloading this file"):
        for attempt in range(_ATTEMPTS):
            try:
                _Transfer(url, part, target.name, size, progress).run()
                break
            except (requests.RequestException, ValueError) as error:
                if attempt + 1 == _ATTEMPTS or not isinstance(error, _TEMPORARY):
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


@dataclass
class _Transfer:
    """One request for the missing bytes of a file, or for all of it.

    Attributes:
        url: address of the file.
        part: file that receives the bytes.
        name: name of the file, for `progress`.
        size: published size in bytes, if it is known.
        progress: called after each block.
        blocks: number of blocks that came so far.
        is_stopped: whether nobody waits for further blocks.
    """

    url: str
    part: Path
    name: str
    size: int | None
    progress: Progress | None
    blocks: int = 0
    is_stopped: bool = False

    def run(self) -> None:
        """Transfer the file.

        Raises:
            requests.RequestException: the request fails, or is too slow.
            ValueError: the server does not send this file.
        """
        try:
            self._run_timed()
        finally:
            self.is_stopped = True
        with self.part.open("rb+") as file:
            os.fsync(file.fileno())

    def _run_timed(self) -> None:
        """Send the request in a thread, and stop waiting if it is too slow.

        A server that sends a byte from time to time would never reach a timeout.

        Raises:
            requests.Timeout: no further block came within `_BLOCK_SECONDS`.
        """
        future: Future[None] = Future()

        def run() -> None:
            try:
                self._request()
                future.set_result(None)
            except BaseException as error:  # it is raised in the thread that waits
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        blocks = -1
        while not future.done():
            if blocks == self.blocks:
                raise requests.Timeout(
                    f"the server sent less than {_BLOCK >> 10} KiB in"
                    f" {_BLOCK_SECONDS:g} s"
                )
            blocks = self.blocks
            wait([future], _BLOCK_SECONDS)
        future.result()

    def _request(self) -> None:
        kept = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if kept:
            headers["Range"] = f"bytes={kept}-"
        with requests.get(
            self.url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            # `part` is complete or another file; the checksum decides
            if response.status_code == 416 and kept:
                return
            _check_status(response)
            if response.status_code == 200:
                kept = 0
            elif not response.headers.get("Content-Range", "").startswith(
                f"bytes {kept}-"
            ):
                self.part.unlink()
                raise requests.ConnectionError(
                    "the server sent another range than the requested one"
                )
            self._receive(response, kept)

    def _receive(self, response: requests.Response, kept: int) -> None:
        """Append the blocks of an answer to the first `kept` bytes."""
        length = _read_length(response)
        total = self.size if length is None else kept + length
        if self.size not in (None, total):
            raise ValueError(
                f"the server sends {total:,} bytes; the published size is {self.size:,}"
            )
        limit = min(total or MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_BYTES)
        count = kept
        with self.part.open("ab" if kept else "wb") as file:
            for block in response.iter_content(_BLOCK):
                if self.is_stopped:
                    return
                count += len(block)
                if count > limit:
                    file.truncate(0)
                    raise ValueError(f"the server sends more than {limit:,} bytes")
                file.write(block)
                self.blocks += 1
                if self.progress:
                    self.progress(count, max(total or 0, count), self.name)
        if total is not None and count < total:
            raise requests.ConnectionError(f"it stopped after {count} of {total} bytes")


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    message = f"the server answered {status} {response.reason}"
    if status >= 500 or status == 429:
        raise requests.ConnectionError(message)
    if status not in (200, 206):
        raise ValueError(message)


def _read_length(response: requests.Response) -> int | None:
    """Return the stated number of bytes of an answer; None if it states none."""
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the server states the length {text[:20]!r}")
    return int(text)


def _verify_checksum(path: Path, checksum: str | None, hint: str) -> None:
    if checksum is None:
        return
    algorithm, digits = _split_checksum(checksum)
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, algorithm).hexdigest()
    if not actual.startswith(digits):
        raise DataError(
            f"this is not the published file: its {algorithm} is {actual}, not"
            f" {digits}",
            path,
            hint,
        )


def _split_checksum(checksum: str) -> tuple[str, str]:
    """Return the name of the algorithm, and the digits."""
    algorithm, _, digits = checksum.rpartition(":")
    return algorithm or "sha256", digits


def root_cause(error: BaseException) -> str:
    """Return the message of the innermost cause, such as "Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
