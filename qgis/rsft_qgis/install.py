"""Install rsft into an environment of its own with venv and pip.

This module does not import QGIS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .executable import rsft_environment
from .process import Feedback, RsftFailedError, run_program

FREE_GB = 8
"""Free space that the packages and their download need, PyTorch with its libraries for
GPUs included."""

_OLDEST = (3, 11)
_PROBE = "import sys, ensurepip, venv; print(*sys.version_info[:2])"
_RESUME = "Run the algorithm again to continue: pip keeps what it has downloaded."
_CAUSES = (
    (
        ("No space left", "Errno 28", "Errno 122", "WinError 112"),
        "The disk is full. Free some space.",
    ),
    (
        (
            "NewConnectionError",
            "NameResolutionError",
            "ConnectTimeout",
            "ReadTimeout",
            "ProxyError",
            "SSLError",
        ),
        (
            "The package index cannot be reached. Check the network, and behind a proxy"
            " the variable HTTPS_PROXY."
        ),
    ),
    (
        ("No matching distribution",),
        "The package index has no such package for this Python. Name a wheel of rsft.",
    ),
    (
        ("is not a supported wheel", "Invalid requirement"),
        "This is no package. Name a wheel or a folder of rsft.",
    ),
)


def find_python(requested: str = "") -> str:
    """Return a Python of version 3.11 or later that can make environments.

    Args:
        requested: path of a Python; empty to search: that of QGIS first, then those on
            PATH.

    Raises:
        RsftFailedError: none was found.
    """
    if requested:
        candidates = [requested]
    else:
        candidates = [path for path in _pythons() if path]
    for path in candidates:
        command = [path, "-c", _PROBE]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=60,
                check=False,
                env=rsft_environment(os.environ),
            )
            version = tuple(map(int, done.stdout.split()))
        except (OSError, ValueError, subprocess.TimeoutExpired):
            continue
        if version >= _OLDEST:
            return path
    raise RsftFailedError(
        f"No Python {'.'.join(map(str, _OLDEST))} or later with venv was found at"
        f" {', '.join(candidates) or 'PATH'}. Install one (python.org; Debian and"
        " Ubuntu: apt install python3-venv), and choose it under Python."
    )


def _pythons() -> Iterator[str | None]:
    base = Path(sys.base_exec_prefix)  # on Windows, sys.executable is QGIS itself
    yield from (
        str(path)
        for path in (base / "python.exe", base / "bin/python3")
        if path.is_file()
    )
    yield from (
        shutil.which(name)
        for name in ("python3.13", "python3.12", "python3.11", "python3", "python")
    )


def install(
    python: str, folder: Path, package: str, options: list[str], feedback: Feedback
) -> None:
    """Make an environment, or continue with an unfinished one, and install rsft into it.

    Args:
        python: the Python of the environment.
        folder: the environment.
        package: what pip installs: `rsft`, or the path of a wheel.
        options: further options of pip.
        feedback: receives what venv and pip print, and says whether to stop.

    Raises:
        RsftFailedError: the disk has too little space, or venv or pip failed.
        RsftCanceledError: the user stopped it.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_GB * 1e9:
        raise RsftFailedError(
            f"{folder} needs {FREE_GB} GB, but its disk has {free / 1e9:.1f} GB free."
        )
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [
        str(scripts / "python"),
        "-m",
        "pip",
        "install",
        "--upgrade",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    steps = (
        ("Making the environment", [python, "-m", "venv", str(folder)]),
        ("Installing", [*pip, *options, package]),
    )
    for text, command in steps:
        feedback.setProgressText(text)
        printed = run_program(command, feedback, f"canceled. {_RESUME}")
        if printed.code:
            causes = [
                cause
                for words, cause in _CAUSES
                if any(word in printed.text for word in words)
            ]
            cause = causes[0] if causes else "The log shows why."
            raise RsftFailedError(
                f"{text} failed with exit code {printed.code}. {cause} {_RESUME}"
            )
