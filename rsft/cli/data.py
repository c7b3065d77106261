"""`rsft data` and `rsft audit`: inspect, check and describe chips, add labels to them, and suggest chips to label."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli import options
from rsft.cli.display.console import (
    console,
    make_table,
    progress,
    show_paths,
    show_store,
)
from rsft.cli.plugin_commands import ExtensibleGroup

if TYPE_CHECKING:
    from rsft.data.audit import AuditResult


app = typer.Typer(
    name="data",
    cls=ExtensibleGroup,
    help=(
        "Inspect and describe a chip store, suggest chips to label, and add corrected"
        " labels."
    ),
    no_args_is_help=True,
)

RootArgument = Annotated[
    Path, typer.Argument(help="Chip store made by `rsft prepare`.")
]


@app.command("show")
@options.documented
def data_show(
    root: RootArgument, chip: Annotated[str | None, typer.Argument()] = None
) -> None:
    """Show the number of chips by class and split.

    With CHIP, show the manifest row of this chip.

    Args:
        chip: Name or path of a chip in the manifest.
    """
    from rsft.data.chips.store import ChipStore
    from rsft.errors import RequestError

    store = ChipStore.open(root)
    if chip is None:
        show_store(store)
        return
    rows = store.table[(store.table["name"] == chip) | (store.table["path"] == chip)]
    if rows.empty:
        raise RequestError(
            f"the chip store has no chip {chip}",
            root,
            "give the name or the path of a chip in the manifest",
        )
    for _, row in rows.iterrows():
        for name, value in row.dropna().items():
            if name == "box":
                shown = " ".join(f"{number:g}" for number in value)
            else:
                shown = str(value)
            if shown:
                console.print(f"{name:<14} {shown}", soft_wrap=True)
        console.print()


@app.command("stats")
def data_stats(root: RootArgument) -> None:
    """Show counts, sizes, data types, pixel ranges, sources, splits and groups.

    Reads every chip.
    """
    from rsft.data.chips.store import SPLITS, ChipStore, summarize_pixels

    store = ChipStore.open(root)
    with progress() as report:
        pixels = summarize_pixels(root, store.table, report)
    show_store(store)
    rows = []
    for kind, row in pixels.to_dict("index").items():
        values = (
            f"{row['lowest']:g}",
            f"{row['highest']:g}",
            f"{row['mean']:.4g}",
            f"{row['bytes'] / 1e6:,.1f}",
        )
        rows.append(
            (
                str(kind),
                f"{row['chips']:,}",
                f"{row['shortest']}-{row['longest']} px",
                *values,
            )
        )
    console.print(
        make_table(
            "", ("pixels", "chips", "sides", "lowest", "highest", "mean", "MB"), rows
        )
    )
    console.print(f"bands        {', '.join(store.bands)}")
    for column in ("source", "sensor", "polarisation"):
        tally = store.table[column].value_counts()
        if len(tally):
            shown = ", ".join(
                f"{name} {count:,}" for name, count in sorted(tally.items())
            )
            console.print(f"{column:<12} {shown}")
    for group, names in store.groups.items():
        split = store.table[store.table["class"].isin(names)]["split"].value_counts()
        shown = ", ".join(f"{name} {split[name]:,}" for name in SPLITS if name in split)
        if shown:
            console.print(f"{group:<12} {shown} ({', '.join(names)})", soft_wrap=True)


@app.command("contact-sheet")
@options.documented
def data_contact_sheet(
    root: RootArgument,
    out: Annotated[Path, typer.Option("-o", "--output")],
    name: Annotated[str | None, typer.Option("--class")] = None,
    split: str | None = None,
    overwrite: options.OverwriteOption = False,
) -> None:
    """Write a PNG with thumbnails of chips, evenly spaced in the order of the manifest.

    Args:
        out: PNG file to write.
        name: Only chips of this class.
        split: Only chips of this split: train, val or test.
    """
    from rsft.data.chips.sidecars import render_contact_sheet, select_sheet_chips
    from rsft.data.chips.store import ChipStore
    from rsft.errors import RequestError
    from rsft.utils.atomic_files import write_bytes

    store = ChipStore.open(root)
    options.check_new_file(out, overwrite)
    if name is not None and name not in store.classes:
        raise RequestError(
            f"the chip store has no class {name}",
            root,
            f"choose one of {', '.join(store.classes)}",
        )
    table = store.table if split is None else store.split(split)
    table = table if name is None else table[table["class"] == name]
    if table.empty:
        raise RequestError(
            "no chip has both this class and this split",
            root,
            "drop --class or --split",
        )
    paths = [root / path for path in table["path"]]
    shown = [paths[number] for number in select_sheet_chips(len(paths))]
    write_bytes(out, render_contact_sheet(shown))
    console.print(f"{out}: {len(shown)} of {len(paths):,} chips", soft_wrap=True)


@app.command("croissant")
@options.documented
def data_croissant(
    root: RootArgument,
    url: str | None = None,
    creator: str | None = None,
    published: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE")
    ] = None,
    overwrite: options.OverwriteOption = False,
) -> None:
    """Write croissant.json into a chip store: its description for catalogs and data loaders.

    It has the fields of the manifest, the classes with their counts, the license, the
    sources and the findings of the audit, with terms of Croissant 1.1, GeoCroissant 1.0
    and Croissant RAI 1.0.

    Args:
        url: Address of the page of the data set.
        creator: Organization that made the data set.
        published: Date of publication, as YYYY-MM-DD.
    """
    from rsft.data.croissant import Publication, write_croissant

    publication = Publication(
        url, creator, None if published is None else published.date().isoformat()
    )
    show_paths({"croissant": write_croissant(root, publication, overwrite=overwrite)})
    if publication.missing:
        names = ", ".join(publication.missing)
        console.print(
            f"unknown      {names}, which Croissant requires of a published data set",
            soft_wrap=True,
        )


@app.command("add")
@options.documented
def data_add(
    root: Annotated[RootArgument, options.check_store],
    corrected: Path,
    label_field: Annotated[str | None, typer.Option("--field")] = None,
    not_a_target: options.NotATargetOption = None,
    new_classes: Annotated[
        list[str] | None, typer.Option("--new-class", metavar="NAME")
    ] = None,
    unit: str | None = None,
    bands: str | None = None,
    mixed_noise: bool = False,
    source: Annotated[list[str] | None, typer.Option(metavar="PATH|ADDRESS")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Join corrected labels to a chip store, all of them or none; list rows that cannot be used.

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
    from rsft.data.chips.store_notes import find_note, note_store
    from rsft.data.imagery.scene_uri import SceneUri
    from rsft.errors import RsftError
    from rsft.inference.corrections.add import AdditionOptions, add_corrections
    from rsft.scenes.options import Declaration
    from rsft.utils.fence import OFF, TRUSTED
    from rsft.utils.remote_files import allow_servers

    sources = (*map(str, TRUSTED), *(source or ()))
    if any(SceneUri.parse(text).is_remote for text in sources):
        allow_servers()
    declaration = Declaration(options.unit_name(unit), options.band_names(bands))
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
    if note is not None:
        with suppress(RsftError):
            note_store(root, note.data_set)
    (emit_addition if as_json else show_addition)(summary)


@app.command("suggest")
@options.documented
def data_suggest(
    source: Annotated[Path, typer.Argument(metavar="PREDICTIONS|STORE")],
    count: Annotated[int, typer.Option(min=1)] = 50,
    out: Annotated[Path | None, typer.Option("-o", "--output")] = None,
    bundle: Path | None = None,
    page: Path | None = None,
    split: str | None = None,
    device: options.DeviceOption = "auto",
    overwrite: options.OverwriteOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Suggest the chips worth labeling next, or the labels of a chip store that a bundle contradicts.

    From a table of predictions: chips of uncertain class, of rare classes, unlike the
    training chips, and different from each other. Write the class of each chip into the
    column `class` of the CSV, or `not a target` or `unsure` into `verdict`.

    Args:
        source: Table that `rsft predict` wrote, or a chip store.
        count: Number of chips.
        out: CSV file to write, to be filled by you.
        bundle: Bundle. A chip store needs it; a table in CSV has no training counts
            without.
        page: HTML page to write, to review only these chips.
        split: Of a chip store, only this split.
    """
    from rsft.cli.display.results import show_suggestions
    from rsft.errors import RequestError
    from rsft.inference.predict.predictor import Predictor
    from rsft.inference.suggestion import suggest
    from rsft.models.bundle.bundle import Bundle
    from rsft.utils.tables import write_csv_table

    check_outputs(out, page, overwrite)
    is_store = (source / "manifest.parquet").is_file()
    if is_store and bundle is None:
        raise RequestError(
            "a chip store needs a bundle that classifies its chips",
            source,
            "give --bundle BUNDLE",
        )
    if split is not None and not is_store:
        raise RequestError(
            "--split only works with a chip store", "--split", "leave it out"
        )
    if is_store and bundle is not None:
        suggestions = suggest.suggest_label_checks(
            source, Predictor.load(bundle, device), count, split
        )
    else:
        suggestions = suggest.suggest_chips(
            source, count, None if bundle is None else Bundle.load(bundle)
        )
    if page is not None:
        suggest.write_suggestion_page(
            page, suggestions, bundle, str(source) if is_store else "STORE"
        )
    if out is not None:
        write_csv_table(suggestions.table, out)
    show_suggestions(suggestions, {"table": out, "page": page}, as_json)


def check_outputs(table: Path | None, page: Path | None, overwrite: bool) -> None:
    """Raise a RequestError if the table or the page of suggestions cannot be written."""
    from rsft.inference.writers.tables import check_output_file

    for path, suffixes in ((table, (".csv",)), (page, (".html", ".htm"))):
        if path is not None:
            check_output_file(path, suffixes, overwrite)


audit_app = typer.Typer()


@audit_app.command("audit", cls=options.FencedCommand)
@options.documented
def audit(
    source: Annotated[Path, typer.Argument(metavar="DIR")],
    strict: bool = False,
    json: Path | None = None,
    jobs: options.JobsOption = 2,
    labels: bool = False,
    bundle: Annotated[Path | None, typer.Option("--from", metavar="BUNDLE")] = None,
    count: Annotated[int | None, typer.Option(min=1)] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output")] = None,
    page: Path | None = None,
    device: options.DeviceOption = "auto",
    overwrite: options.OverwriteOption = False,
) -> None:
    """Find duplicates, near-duplicates, leaks between splits, contradictory labels and unusable chips.

    With --labels, find wrong labels in place of them: chips whose label is contradicted
    by classifiers that were fitted on chips of other scenes. Nothing is written into
    the store.

    Args:
        source: A chip store, or class folders.
        strict: Exit with status 1 if any fault is found.
        json: JSON file for the findings (default: audit.json in a chip store).
        labels: Rank the chips of a chip store whose labels are probably wrong.
        bundle: With --labels, the bundle or run whose features are used (default: the
            embedded encoder). A model that was trained on these chips has seen their
            labels, so only its features are used, not its predictions, and wrong labels
            that it learned may be missing.
        count: With --labels, the number of chips in the files (default: all whose label
            is contradicted).
        out: With --labels, the CSV file to write, to be filled by you.
        page: With --labels, the HTML page to write, on which you confirm or correct the
            proposed classes.
    """
    from rsft.data.audit import AUDIT_FILE, audit_folder, audit_store, write_audits
    from rsft.data.chips.store import DATASET, ChipStore
    from rsft.errors import RequestError

    if labels and (strict or json):
        raise RequestError(
            "--strict and --json do not work with --labels",
            "--labels",
            "leave them out, or give -o",
        )
    if labels:
        check_outputs(out, page, overwrite)
        return audit_labels(source, bundle, device, count, out, page)
    if any((bundle, count, out, page)):
        raise RequestError(
            "--from, --count, -o and --page only work with --labels",
            source,
            "give --labels as well",
        )
    with progress() as report:
        if (source / DATASET).is_file():
            result = audit_store(ChipStore.open(source), jobs=jobs, progress=report)
            json = json or source / AUDIT_FILE
        else:
            result = audit_folder(source, jobs=jobs, progress=report)
    show_audit(result)
    if json is not None:
        write_audits(json, [result])
        show_paths({"audit": json})
    if strict and not result.is_clean:
        raise typer.Exit(1)


_SHOWN = 20  # rows in the terminal


def audit_labels(
    root: Path,
    bundle: Path | None,
    device: str,
    count: int | None,
    out: Path | None,
    page: Path | None,
) -> None:
    """Print and write the chips of a store whose labels are probably wrong; the arguments are those of `audit`."""
    from rsft.cli.display.results import show_suggestions
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.label_audit import predict_out_of_fold, read_audit_inputs
    from rsft.inference.suggestion import suggest
    from rsft.utils.tables import write_csv_table

    store = ChipStore.open(root)
    with progress() as report:
        result = predict_out_of_fold(
            read_audit_inputs(store, bundle, device, report), store.classes, report
        )
    audited = suggest.suggest_audited_labels(
        store, result.table, result.probabilities, result.notes
    )
    pairs = Counter(
        zip(audited.table["label"], audited.table["predicted"], strict=True)
    ).most_common(_SHOWN)
    columns = ("label", "proposed class", "chips")
    rows = [(*pair, f"{chips:,}") for pair, chips in pairs]
    if rows:
        console.print(make_table("", columns, rows, texts=columns[:2]))
    audited = audited.head(count)
    page = page if rows else None  # a page without chips is refused
    if out is not None:
        write_csv_table(audited.table, out)
    if page is not None:
        suggest.write_suggestion_page(page, audited, bundle, str(root))
    show_suggestions(audited, {"table": out, "page": page}, shown=_SHOWN)


def show_audit(audit: AuditResult) -> None:
    """Print three tables: totals, findings, and the rows of each class by origin and split."""
    totals = [
        (name, value if isinstance(value, str) else f"{value:,}")
        for name, value in audit.totals.items()
    ]
    console.print(make_table(audit.subject, ("", "count"), totals))
    rows = []
    for finding in audit.findings:
        if finding.total is None:
            total = ""
        else:
            total = f" of {finding.total:,}"
        rows.append(
            (
                finding.description,
                f"{finding.count:,}{total}",
                ", ".join(finding.examples[:2]),
            )
        )
    console.print(
        make_table(
            "", ("finding", "count", "examples"), rows, texts=("finding", "examples")
        )
    )
    counts_by_origin = [
        counts for origins in audit.classes.values() for counts in origins.values()
    ]
    splits = list(
        dict.fromkeys(split for counts in counts_by_origin for split in counts)
    )
    classes = [
        ("" if index else label, origin, *(f"{counts[split]:,}" for split in splits))
        for label, origins in audit.classes.items()
        for index, (origin, counts) in enumerate(origins.items())
    ]
    console.print(
        make_table("", ("class", "origin", *splits), classes, texts=("class", "origin"))
    )
