"""Run the command line for a trial: python -m rsft.sweep.launch FOLDER ARGUMENTS...

This process ends when its parent ends for any reason: the parent's end of standard input closes, and SIGTERM lets the
run save its state. FOLDER stays locked until then, and a second process for the same folder waits.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from pathlib import Path

from filelock import FileLock

from rsft.sweep.outcome import LOCK


def end_with_parent() -> None:
    """Send SIGTERM to this process as soon as its standard input closes."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # sys.stdin.read would hold a lock that the exit of Python waits for
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    end_with_parent()
    with FileLock(folder / LOCK):
        runpy.run_module("rsft", run_name="__main__")
