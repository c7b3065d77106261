"""`rsft audit`: what is wrong with lists or chips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli.display.console import console, progress, show_paths
from rsft.cli.options import JobsOption

if TYPE_CHECKING:
    from rich.table import Table

    from rsft.data.audit.findings import AuditResult

app = typer.Typer()


@app.command("audit")
def audit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_LISTS", help="A prepared root, class folders, or the folder of the FUSRS lists."
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where anything is found.")] = False,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write the findings; a prepared root keeps them in audit.json."),
    ] = None,
    jobs: JobsOption = 2,
) -> None:
    """Look for repetitions, leaks between splits, label conflicts, near-duplicates and unusable chips."""
    from rsft.data.audit.findings import AUDIT_FILE, write_audits
    from rsft.data.audit.list_audit import audit_fusrs_lists, has_fusrs_lists
    from rsft.data.audit.store_audit import audit_folder, audit_store
    from rsft.data.chips.store import DATASET, ChipStore

    with progress() as report:
        if has_fusrs_lists(source):
            audits = audit_fusrs_lists(source)
        elif (source / DATASET).is_file():
            audits, json = (
                [audit_store(ChipStore.open(source), jobs=jobs, progress=report)],
                json or source / AUDIT_FILE,
            )
        else:
            audits = [audit_folder(source, jobs=jobs, progress=report)]
    for found in audits:
        show_audit(found)
    if json is not None:
        write_audits(json, audits)
        show_paths({"audit": json})
    if strict and not all(found.is_clean for found in audits):
        raise typer.Exit(1)


def show_audit(audit: AuditResult) -> None:
    """Three tables: what is there, what was found, what stands behind each class."""
    console.print(
        _table(audit.subject, ["", "count"], [(name, _number(value)) for name, value in audit.totals.items()])
    )
    rows = [
        (
            found.description,
            f"{found.count:,}" + (f" of {found.total:,}" if found.total is not None else ""),
            ", ".join(found.examples[:2]),
        )
        for found in audit.findings
    ]
    console.print(_table("", ["found", "count", "such as"], rows))
    splits = list(dict.fromkeys(split for behind in audit.classes.values() for of in behind.values() for split in of))
    origins = [
        ("" if index else label, origin, *(f"{counts[split]:,}" for split in splits))
        for label, behind in audit.classes.items()
        for index, (origin, counts) in enumerate(behind.items())
    ]
    console.print(_table("", ["class", "made of", *splits], origins))


def _table(title: str, columns: list[str], rows: Sequence[tuple[str, ...]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))
    numbers = {"count", "train", "val", "test"}
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _number(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
