"""`rsft doctor`: report the environment of rsft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from rsft.cli.display.console import console
from rsft.cli.options import documented

if TYPE_CHECKING:
    from rsft.cli.environment_report import EnvironmentCheck

app = typer.Typer()

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
@documented
def doctor() -> None:
    """Report the environment: versions, device, threads, speed, free space, weights."""
    from rsft.cli.environment_report import environment_report

    with console.status("measuring"):
        rows = environment_report()
    show_environment(rows)


def show_environment(rows: Sequence[EnvironmentCheck]) -> None:
    """Print checks as a table; the exit code is 1 if one failed."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "check", "value", "hint", box=None, pad_edge=False)
    for row in rows:
        status = Text(row.status, _STYLES[row.status])
        table.add_row(status, row.name, row.value, row.hint)
    console.print(table)
    if any(row.status == "fail" for row in rows):
        raise typer.Exit(1)
