"""`rsft audit`: check lists or chips before training."""

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
        typer.Argument(metavar="DIR_OR_LISTS", help="A chip store, class folders, or the folder of the FUSRS lists."),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 if any fault is found.")] = False,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="JSON file for the findings (default: audit.json in a chip store)."),
    ] = None,
    jobs: JobsOption = 2,
) -> None:
    """Find duplicates, near-duplicates, leaks between splits, contradictory labels and unusable chips."""
    from rsft.data.audit.findings import AUDIT_FILE, write_audits
    from rsft.data.audit.list_audit import audit_fusrs_lists, has_fusrs_lists
    from rsft.data.audit.store_audit import audit_folder, audit_store
    from rsft.data.chips.store import DATASET, ChipStore

    with progress() as report:
        if has_fusrs_lists(source):
            audits = audit_fusrs_lists(source)
        elif (source / DATASET).is_file():
            audits = [audit_store(ChipStore.open(source), jobs=jobs, progress=report)]
            json = json or source / AUDIT_FILE
        else:
            audits = [audit_folder(source, jobs=jobs, progress=report)]
    for result in audits:
        show_audit(result)
    if json is not None:
        write_audits(json, audits)
        show_paths({"audit": json})
    if strict and not all(result.is_clean for result in audits):
        raise typer.Exit(1)


def show_audit(audit: AuditResult) -> None:
    """Print three tables: totals, findings, and the rows of each class by origin and split."""
    totals = [(name, value if isinstance(value, str) else f"{value:,}") for name, value in audit.totals.items()]
    console.print(_make_table(audit.subject, ["", "count"], totals))
    rows = [
        (
            finding.description,
            f"{finding.count:,}" + (f" of {finding.total:,}" if finding.total is not None else ""),
            ", ".join(finding.examples[:2]),
        )
        for finding in audit.findings
    ]
    console.print(_make_table("", ["finding", "count", "examples"], rows))
    counts_by_origin = [counts for origins in audit.classes.values() for counts in origins.values()]
    splits = list(dict.fromkeys(split for counts in counts_by_origin for split in counts))
    classes = [
        ("" if index else label, origin, *(f"{counts[split]:,}" for split in splits))
        for label, origins in audit.classes.items()
        for index, (origin, counts) in enumerate(origins.items())
    ]
    console.print(_make_table("", ["class", "origin", *splits], classes))


def _make_table(title: str, columns: list[str], rows: Sequence[tuple[str, ...]]) -> Table:
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
