"""Kill what Ray leaves behind when the process that started it is killed.

Ray's daemons end with that process, but their agents try for a minute to reach a daemon
that is gone, and workers that were just starting wait even longer. A watcher in a
session of its own sees the end of a pipe and kills them. It runs as a program with the
standard library alone, so it starts in some hundredths of a second.
"""

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "RSFT_RAY_SESSION"
"""Environment variable that all processes of a session inherit."""

_PROCESSES = Path("/proc")
# between two looks: Ray's processes import modules for longer before they replace their
# environment
_INTERVAL_S = 0.25
# a killed process may start another one before it ends, and the watcher looks again
_PATIENCE_S = 5.0


@contextmanager
def processes_end_with_this_one() -> Iterator[None]:
    """Kill all processes that begin within a `with` block, and are left at its end or at the end of this process.

    It covers the processes that inherit the environment, in any session or process
    group. Only Linux lists the environment of processes; on other systems, nothing is
    killed.

    Yields:
        None.
    """
    if not _PROCESSES.is_dir():
        yield
        return
    token = secrets.token_hex(16)
    command = [sys.executable, "-I", "-S", __file__, token]
    watcher = subprocess.Popen(
        command, stdin=subprocess.PIPE, start_new_session=True, cwd="/"
    )
    os.environ[VARIABLE] = token
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        watcher.communicate()  # closes the pipe


def _watch(token: str) -> None:
    """Wait for the end of standard input, then kill the processes whose environment contains the token.

    Processes of Ray replace their environment in memory by a title some time after
    their start. So the watcher looks regularly, and remembers them with their time of
    start: another process may get the number of one that has ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only the end of the pipe counts
    entry = f"{VARIABLE}={token}".encode()
    seen = dict[int, bytes]()
    while not select.select([0], [], [], _INTERVAL_S)[0]:
        seen = _find(entry, seen)
    limit = time.monotonic() + _PATIENCE_S
    while (seen := _find(entry, seen)) and time.monotonic() < limit:
        for pid in seen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _find(entry: bytes, seen: dict[int, bytes]) -> dict[int, bytes]:
    """Return the live processes that were seen, or whose environment contains an entry, with their time of start."""
    start_times = {}
    for path in _PROCESSES.glob("[0-9]*"):
        with suppress(
            OSError
        ):  # it has ended in the meantime, or belongs to another user
            pid = int(path.name)
            fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
            state = fields[0]
            started = fields[19]
            if state == b"Z":
                continue
            if seen.get(pid) == started or entry in (
                path / "environ"
            ).read_bytes().split(b"\0"):
                start_times[pid] = started
    return start_times


if __name__ == "__main__":
    _watch(sys.argv[1])
