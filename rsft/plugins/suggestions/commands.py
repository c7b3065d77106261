"""`rsft data suggest`: chips to label, and labels to check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsft.cli import options
from rsft.cli.display.console import (
    console,
    format_chip_count,
    make_table,
    progress,
    show_paths,
)
from rsft.errors import RequestError
from rsft.utils.command_options import Access, Argument, Option

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.suggestions.suggest import Suggestions

TableOption = Annotated[
    Path | None, replace(options.OUT, help="CSV file to write, to be filled by you.")
]
PageOption = Annotated[
    Path | None,
    Option(
        "HTML page to write, on which you confirm or correct the classes.",
        access=Access.WRITE,
    ),
]

app = typer.Typer(add_completion=False)


@app.command("suggest")
@options.documented
def data_suggest(
    source: Annotated[Path, Argument(metavar="PREDICTIONS|STORE")],
    count: Annotated[int, Option(min=1)] = 50,
    out: TableOption = None,
    bundle: Path | None = None,
    html: PageOption = None,
    split: str | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Suggest chips to label next, or labels of a chip store that are probably wrong.

    From a table of predictions: chips of uncertain class, of rare classes, unlike the
    training chips, and different from each other. From a chip store: chips whose label
    is contradicted by classifiers that were fitted on chips of other scenes, or by a
    bundle. Write the class of each chip into the column `class` of the CSV, or `not a
    target` or `unsure` into `verdict`.

    Args:
        source: Table that `rsft predict` wrote, or a chip store.
        count: Number of chips.
        split: Only chips of this split: train, val or test.
        bundle: Bundle that contradicts labels of a chip store, or the one of a table in
            CSV, which has no training counts.
    """
    from rsft.data.chips.manifest import MANIFEST
    from rsft.data.chips.store import ChipStore
    from rsft.inference.predict.predictor import Predictor
    from rsft.models.bundle.bundle import Bundle
    from rsft.plugins.suggestions.label_check import suggest_label_checks
    from rsft.plugins.suggestions.page import write_suggestion_page
    from rsft.plugins.suggestions.suggest import suggest_chips
    from rsft.utils.tables import write_csv_table

    check_outputs(out, html, overwrite)
    is_store = (source / MANIFEST).is_file()
    if split is not None and not (is_store and bundle):
        message = "--split only works with a chip store and --bundle"
        raise RequestError(message, "--split", "leave it out")
    if not is_store:
        loaded = None if bundle is None else Bundle.load(bundle)
        suggestions = suggest_chips(source, count, loaded)
    elif bundle is None:
        suggestions = _audit_labels(ChipStore.open(source)).head(count)
    else:
        predictor = Predictor.load(bundle)
        suggestions = suggest_label_checks(source, predictor, count, split)
    if suggestions.table.empty:
        html = None
    if html is not None:
        store = str(source) if is_store else "STORE"
        write_suggestion_page(html, suggestions, bundle, store)
    if out is not None:
        write_csv_table(suggestions.table, out)
    show_suggestions(suggestions, {"table": out, "page": html}, as_json)


def _audit_labels(store: ChipStore) -> Suggestions:
    """Return all chips whose labels classifiers of other scenes contradict."""
    from rsft.plugins.suggestions.label_audit import (
        predict_out_of_fold,
        read_audit_inputs,
    )
    from rsft.plugins.suggestions.label_check import suggest_audited_labels

    with progress() as report:
        inputs = read_audit_inputs(store, progress=report)
        result = predict_out_of_fold(inputs, store.classes, report)
    return suggest_audited_labels(
        store, result.table, result.probabilities, result.notes
    )


def check_outputs(table: Path | None, page: Path | None, overwrite: bool) -> None:
    """Raise a RequestError if the files of suggestions cannot be written."""
    from rsft.inference.writers.tables import check_output_file

    if table is not None:
        check_output_file(table, (".csv",), overwrite)
    if page is not None:
        check_output_file(page, (".html", ".htm"), overwrite)


def show_suggestions(
    suggestions: Suggestions,
    outputs: Mapping[str, Path | None],
    as_json: bool = False,
) -> None:
    """Print the chips with the reason for each one, and notes, or one JSON object.

    Args:
        suggestions: the chips.
        outputs: "table" and "page": the files that were written; None for those that
            were not.
        as_json: print JSON.
    """
    paths = {name: path for name, path in outputs.items() if path is not None}
    rows = suggestions.table.drop(columns=["class", "verdict"]).to_dict("records")
    if as_json:
        content = {
            "chips": rows,
            "candidates": suggestions.candidates,
            "notes": suggestions.notes,
        }
        print(
            json.dumps(
                content | {name: paths.get(name) for name in outputs},
                indent=1,
                default=str,
            )
        )
        return
    names = [Path(path).name for path in suggestions.table["path"]]
    # differs from the name of the file for chips in scenes
    if "chip" in suggestions.predictions:
        names = suggestions.predictions["chip"].astype(str).tolist()
    cells = [
        (str(number), name, row["predicted"], row["reason"])
        for number, (row, name) in enumerate(zip(rows, names, strict=True), 1)
    ]
    columns = ("", "chip", "predicted", "reason")
    if cells:
        console.print(make_table("", columns, cells, texts=columns))
    console.print(f"{len(rows):,} of {format_chip_count(suggestions.candidates)}")
    for note in suggestions.notes:
        console.print(note)
    show_paths(paths)
    if "table" in paths:
        console.print(
            "fill in class or verdict in the table, then run: rsft data add STORE"
            " TABLE",
        )
