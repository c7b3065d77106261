"""Runs the command line for a trial: python -m rsft.sweep.launch FOLDER ARGUMENTS...

It ends with the process that started it, however that one ended: its end of our standard input closes then, and SIGTERM
lets the run save where it is. Until that is done FOLDER stays locked, and a second process for it waits.
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
    """From now on, get SIGTERM when standard input closes."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # no lock of Python's is held, which its own end would wait for
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    end_with_parent()
    with FileLock(folder / LOCK):
        runpy.run_module("rsft", run_name="__main__")
