"""Read an untrusted file in a process of its own, with limits."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE

from rsft.utils.fence import enter_fence
from rsft.utils.operating_system import limit_address_space, watch_memory
from rsft.utils.remote_files import NO_SERVERS
from rsft.utils.untrusted.gdal_drivers import LIMIT

MAX_PROCESS_MEMORY = 2**32
"""Address space of the process, or on macOS and Windows its resident memory: 4 GiB."""
MAX_PROCESS_SECONDS = 120
"""Seconds of the process."""


def run_limited(program: str, data: bytes) -> bytes:
    """Run a program of Python with `data` as its standard input.

    It calls `enter_limits` before it reads a file.

    Returns:
        Its standard output.

    Raises:
        ValueError: it needed more than `MAX_PROCESS_MEMORY` or `MAX_PROCESS_SECONDS`,
            or ended with a fault.
        OSError: no process can be started.
    """
    # -P: no modules from the working directory
    command = [
        sys.executable,
        "-P",
        "-c",
        program,
    ]
    environment = os.environ | {
        LIMIT: "limited",
        NO_SERVERS: "-",
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
    ) as process:
        threading.Thread(
            target=watch_memory, args=(process, MAX_PROCESS_MEMORY), daemon=True
        ).start()
        try:
            output, errors = process.communicate(data, MAX_PROCESS_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"it was not read within {MAX_PROCESS_SECONDS} s"
            ) from error
        finally:
            process.kill()
    if process.returncode:
        text = errors.decode(errors="replace").strip().rpartition("\n")[2]
        if process.returncode < 0 or "MemoryError" in text:
            fault = ""
        else:
            fault = f": {text}"
        raise ValueError(
            fault[2:]
            or f"it was not read within {MAX_PROCESS_MEMORY >> 30} GiB of memory"
        )
    return output


def enter_limits(readable: Iterable[Path], writable: Iterable[Path] = ()) -> None:
    """Limit the memory of this process, and what it can read and contact.

    Args:
        readable: files and folders, besides Python, its packages and libraries of the
            system.
        writable: files and folders, besides /dev.
    """
    limit_address_space(MAX_PROCESS_MEMORY)
    system = [
        Path(sys.prefix),
        Path(sys.base_prefix),
        *map(Path, sys.path),
        Path("/usr"),
        Path("/lib"),
        Path("/proc"),
    ]
    enter_fence([*readable, *system], [*writable, Path("/dev")], connects=False)
