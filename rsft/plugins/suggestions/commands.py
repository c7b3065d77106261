"""`rsft data suggest`: chips to label, and labels to check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli import options
from rsft.cli.display.console import (
    console,
    format_chip_count,
    make_table,
    print_lines,
    progress,
    show_paths,
)
from rsft.errors import RequestError
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.utils.command_options import Argument, Option

if TYPE_CHECKING:
    from rsft.plugins.suggestions.suggest import Suggestions

PAGE_SUFFIXES = (".html", ".htm")

app = typer.Typer(add_completion=False)


@app.command("suggest")
@options.documented
def data_suggest(
    source: Annotated[Path, Argument(metavar="CHIPS|PREDICTIONS|STORE")],
    count: Annotated[int, Option(min=1)] = 50,
    out: Annotated[Path | None, options.OUT] = None,
    declaration: Declaration = UNDECLARED,
    *,
    overwrite: bool,
) -> None:
    """Suggest chips to label next, or labels of a chip store that are probably wrong.

    From a folder of chips without labels: the typical chips of its clusters. On the
    page, you name the classes, and your labels choose the next chip; train on the file
    that it saves.

    rsft data suggest chips -o classes.html

    rsft finetune labels.csv

    From a table of predictions: chips of uncertain class, of rare classes, unlike the
    training chips, and different from each other. From a chip store: chips whose label
    is contradicted by classifiers that were fitted on chips of other scenes. Write the
    class of each chip into the column `class` of the CSV, or `not a target` or `unsure`
    into `verdict`.

    Args:
        source: Folder of chips, table that `rsft predict` wrote, or a chip store.
        count: Number of chips. A page for a folder of chips has all of them.
        out: HTML page to write, on which you confirm or correct the classes; or CSV
            file, to be filled by you.
    """
    from rsft.data.chips.manifest import MANIFEST
    from rsft.inference.writers.tables import check_output_file
    from rsft.plugins.suggestions.page import write_suggestion_page
    from rsft.plugins.suggestions.suggest import suggest_chips
    from rsft.utils.tables import write_csv_table

    page = None
    if out is not None:
        check_output_file(out, (".csv", *PAGE_SUFFIXES), overwrite)
        if out.suffix.lower() in PAGE_SUFFIXES:
            out, page = None, out
    is_store = (source / MANIFEST).is_file()
    is_folder = source.is_dir() and not is_store
    if declaration != UNDECLARED and not is_folder:
        message = "--unit and --bands only work with a folder of chips"
        raise RequestError(message, "--unit, --bands", "leave them out")
    if is_folder:
        suggestions = _suggest_first(source, count, page, declaration)
    else:
        store = str(source) if is_store else "STORE"
        if is_store:
            suggestions = _audit_labels(source, count)
        else:
            suggestions = suggest_chips(source, count)
        if suggestions.table.empty:
            page = None
        elif page is not None:
            write_suggestion_page(page, suggestions, store)
    if out is not None:
        write_csv_table(suggestions.table, out)
    show_suggestions(suggestions, {"table": out, "page": page})


def _suggest_first(
    folder: Path, count: int, page: Path | None, declaration: Declaration
) -> Suggestions:
    """Suggest chips of a folder without labels, and write the page if there is one."""
    from rsft.inference.review.page import MAX_CHIPS
    from rsft.plugins.suggestions.first_chips import START, suggest_first_chips
    from rsft.plugins.suggestions.page import write_naming_page
    from rsft.scenes.inputs import find_chips

    files, _ = find_chips([folder], declaration)
    clusters = count if page is None else START
    with progress() as report:
        chips = suggest_first_chips(files, clusters, MAX_CHIPS, report)
    if page is not None:
        write_naming_page(page, chips, declaration)
        chips.suggestions.notes.append(
            "the page begins with this chip, and your labels choose the next ones"
        )
    return chips.suggestions


def _audit_labels(root: Path, count: int) -> Suggestions:
    """Return chips of a store whose labels other scenes contradict."""
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.suggestions.label_audit import (
        predict_out_of_fold,
        read_chip_features,
    )
    from rsft.plugins.suggestions.label_check import suggest_audited_labels

    store = ChipStore.open(root)
    with progress() as report:
        result = predict_out_of_fold(
            read_chip_features(store, progress=report), store.classes, report
        )
    return suggest_audited_labels(
        store, result.table, result.probabilities, result.notes, count
    )


def show_suggestions(
    suggestions: Suggestions, outputs: Mapping[str, Path | None]
) -> None:
    """Print the chips with the reason for each one, and notes.

    Args:
        suggestions: the chips.
        outputs: "table" and "page": the files that were written; None for those that
            were not.
    """
    paths = {name: path for name, path in outputs.items() if path is not None}
    table = suggestions.table
    names = [Path(path).name for path in table["path"]]
    # differs from the name of the file for chips in scenes
    if "chip" in suggestions.predictions:
        names = suggestions.predictions["chip"].astype(str).tolist()
    numbers = map(str, range(1, len(names) + 1))
    cells = list(zip(numbers, names, table["predicted"], table["reason"], strict=True))
    columns = ("", "chip", "predicted", "reason")
    if cells:
        console.print(make_table("", columns, cells, texts=columns))
    console.print(f"{len(names):,} of {format_chip_count(suggestions.candidates)}")
    print_lines(suggestions.notes)
    show_paths(paths)
    command = "rsft data add STORE TABLE"
    if not suggestions.classes:  # no store has chips without classes
        command = "rsft finetune TABLE"
    if "table" in paths:
        console.print(f"fill in class or verdict in the table, then run: {command}")
