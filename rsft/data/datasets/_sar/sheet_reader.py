"""Read a spreadsheet in a process of its own, whose memory is limited: a damaged .xls can ask for any amount of it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

MAX_SHEET_BYTES = 2**26
"""Largest spreadsheet: 64 MiB. The one of FUSAR-Ship has 1 MB."""

_MEMORY = 2**30  # bytes of address space for the other process
_SECONDS = 120
_MAX_TEXT = 2**24  # letters of all cells; those of FUSAR-Ship have 1 million
_PROGRAM = f"""
import sys, json
from python_calamine import CalamineWorkbook
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY},) * 2)
except (ImportError, ValueError, OSError):  # Windows
    pass
def text(cell):
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
rows = CalamineWorkbook.from_path(sys.argv[1]).get_sheet_by_index(0).to_python(skip_empty_area=False)
rows = [[text(cell) for cell in row] for row in rows]
if sum(len(cell) + 4 for row in rows for cell in row) > {_MAX_TEXT}:
    sys.exit(1)
json.dump(rows, sys.stdout)
"""


def read_sheet(path: pathlib.Path) -> list[list[str]]:
    """Read the first sheet of a spreadsheet as text; whole numbers get no decimal point.

    Args:
        path: an .xls or .xlsx file.

    Returns:
        The cells of all rows.

    Raises:
        ValueError: the file is too large, is not a spreadsheet, or cannot be read within the limits.
        OSError: no process can be started.
    """
    hint = "save it as meta.csv"
    if not path.is_file() or path.stat().st_size > MAX_SHEET_BYTES:
        raise ValueError(f"{path} is larger than {MAX_SHEET_BYTES:,} bytes, or not a file; {hint}")
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        result = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{path} was not read within {_SECONDS} s; {hint}") from error
    if result.returncode:
        raise ValueError(
            f"{path} is not an Excel table that can be read in {_MEMORY >> 20} MiB, with {_MAX_TEXT:,} letters; {hint}"
        )
    rows: list[list[str]] = json.loads(result.stdout)
    return rows
