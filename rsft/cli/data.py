"""`rsft data` and `rsft audit`: inspect, check, describe and extend chip stores."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli import options
from rsft.cli.display.console import (
    console,
    make_table,
    print_lines,
    print_rows,
    progress,
    shorten,
    show_paths,
    show_store,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.utils.command_options import Access, Argument, Option

if TYPE_CHECKING:
    from rsft.data.audit import AuditResult


app = typer.Typer(
    name="data",
    cls=ExtensibleGroup,
    help=("Inspect and describe a chip store, and add corrected labels."),
)

RootArgument = Annotated[
    Path,
    Argument("Chip store made by `rsft prepare`.", access=Access.READ | Access.WRITE),
]


@app.command("show")
@options.documented
def data_show(root: RootArgument) -> None:
    """Show the number of chips by class and split."""
    from rsft.data.chips.store import ChipStore

    show_store(ChipStore.open(root))


@app.command("stats")
@options.documented
def data_stats(root: RootArgument) -> None:
    """Show counts, sizes, data types, pixel ranges and bands.

    Reads every chip.
    """
    from rsft.data.chips.store import ChipStore, summarize_pixels

    store = ChipStore.open(root)
    with progress() as report:
        pixels = summarize_pixels(root, store.table, report)
    show_store(store)
    rows = []
    for kind, row in pixels.to_dict("index").items():
        cells = [str(kind), f"{row['chips']:,}"]
        cells.append(f"{row['shortest']}-{row['longest']} px")
        cells += [f"{row['lowest']:g}", f"{row['highest']:g}", f"{row['mean']:.4g}"]
        rows.append([*cells, f"{row['bytes'] / 1e6:,.1f}"])
    console.print(
        make_table(
            "", ("pixels", "chips", "sides", "lowest", "highest", "mean", "MB"), rows
        )
    )
    print_rows({"bands": ", ".join(store.bands)}, 12)


@app.command("add")
@options.documented
def data_add(
    root: Annotated[RootArgument, options.check_store],
    corrected: Path,
    label_field: Annotated[str | None, Option(name="--field")] = None,
    not_a_target: options.NotATargetOption = None,
    new_classes: Annotated[
        list[str] | None, Option(name="--new-class", metavar="NAME")
    ] = None,
    unit: options.UnitOption = None,
    bands: tuple[str, ...] | None = None,
    mixed_noise: bool = False,
    source: Annotated[list[str] | None, Option(metavar="PATH|ADDRESS")] = None,
    *,
    as_json: bool,
) -> None:
    """Join corrected labels to a chip store, all or none; list rows without use.

    Chips that were not saved are cut from their scene again. No scene gets into two
    splits. The same command again changes nothing.

    Args:
        corrected: corrected.csv of the review page, or a table of `rsft predict`
            (.gpkg, .geojson, .parquet, .csv) with a field of labels.
        label_field: Field of the labels in a table of predictions (default: corrected).
        new_classes: A class that the store does not have yet; repeatable.
        unit: Unit of the chip files, if neither they nor the table name it.
        bands: Names of the bands of the chip files, such as VV,VH, if they have none.
        mixed_noise: Accept scenes with and without their thermal noise in one store.
        source: Folder or file of chips, or address of a scene, that the table may name;
            repeatable. The store and the folder of the table need no option, nor do
            unchanged scenes on this machine.
    """
    from rsft.cli.display.results import emit_addition, report_progress, show_addition
    from rsft.corrections.add import AdditionOptions, add_corrections
    from rsft.data.chips.store_notes import find_note, note_store
    from rsft.data.imagery.scene_uri import SceneUri
    from rsft.errors import RsftError
    from rsft.scenes.options import Declaration
    from rsft.utils.cell.named import OFF, TRUSTED
    from rsft.utils.remote_files import allow_servers

    sources = (*map(str, TRUSTED), *(source or ()))
    if any(SceneUri.parse(text).is_remote for text in sources):
        allow_servers()
    declaration = Declaration(unit, bands)
    classes = tuple(new_classes or ())
    allowed = None if OFF else sources
    addition = AdditionOptions(
        label_field, not_a_target, classes, declaration, mixed_noise, allowed
    )
    note = None
    with suppress(RsftError):  # an error of the list is shown where a recipe reads it
        note = find_note(root)
    with report_progress(as_json) as report:
        summary = add_corrections(root, corrected, addition, report)
    if note:
        with suppress(RsftError):
            note_store(root, note.data_set)
    if as_json:
        emit_addition(summary)
    else:
        show_addition(summary)


audit_app = typer.Typer()


@audit_app.command("audit")
@options.documented
def audit(
    source: Annotated[
        Path, Argument(metavar="DIR", access=Access.READ | Access.BESIDE)
    ],
    strict: bool = False,
    out: Annotated[Path | None, options.OUT] = None,
    *,
    overwrite: bool,
) -> None:
    """Find duplicates, leaks between splits, contradictory labels and unusable chips.

    Args:
        source: A chip store, or class folders.
        strict: Exit with status 1 if any fault is found.
        out: JSON file for the findings (default: audit.json in a chip store).
    """
    from rsft.data.audit import audit_folder, audit_store, write_audits
    from rsft.data.chips.store import AUDIT_FILE, DATASET, ChipStore

    with progress() as report:
        if (source / DATASET).is_file():
            result = audit_store(ChipStore.open(source), jobs=2, progress=report)
            out = out or source / AUDIT_FILE
        else:
            result = audit_folder(source, jobs=2, progress=report)
    show_audit(result, out or "the file of --out")
    if out:
        write_audits(out, [result])
        show_paths({"audit": out})
    if strict and not result.is_clean:
        raise typer.Exit(1)


def show_audit(audit: AuditResult, location: object = None) -> None:
    """Print totals, findings, and the rows of each class by origin and split.

    Args:
        audit: the result.
        location: the file with all of it; None shows all classes.
    """
    totals = []
    for name, value in audit.totals.items():
        totals.append((name, value if isinstance(value, str) else f"{value:,}"))
    console.print(make_table(audit.subject, ("", "count"), totals))
    findings = []
    for finding in audit.findings:
        count = f"{finding.count:,}"
        if finding.total is not None:
            count += f" of {finding.total:,}"
        findings.append((finding.description, count, ", ".join(finding.examples[:2])))
    console.print(
        make_table(
            "",
            ("finding", "count", "examples"),
            findings,
            texts=("finding", "examples"),
        )
    )
    splits: dict[str, None] = {}
    for origins in audit.classes.values():
        for counts in origins.values():
            splits |= dict.fromkeys(counts)
    classes = []
    for name, origins in audit.classes.items():
        label = name
        for origin, counts in origins.items():
            classes.append((label, origin, *(f"{counts[x]:,}" for x in splits)))
            label = ""
    headings = ("class", "origin", *splits)
    classes, lines = shorten(classes, location, 7)
    console.print(make_table("", headings, classes, texts=headings[:2]))
    print_lines(lines)
