"""Commands that suggest chips to label, and find wrong labels."""

from __future__ import annotations

import json
from collections import Counter
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

_SHOWN = 20  # rows in the terminal

suggest_app = typer.Typer(add_completion=False)


@suggest_app.command("suggest")
@options.documented
def data_suggest(
    source: Annotated[Path, Argument(metavar="PREDICTIONS|STORE")],
    count: Annotated[int, Option(min=1)] = 50,
    out: TableOption = None,
    bundle: Path | None = None,
    html: PageOption = None,
    split: options.SplitOption = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Suggest chips to label next, or labels of a chip store that a bundle contradicts.

    From a table of predictions: chips of uncertain class, of rare classes, unlike the
    training chips, and different from each other. Write the class of each chip into the
    column `class` of the CSV, or `not a target` or `unsure` into `verdict`.

    Args:
        source: Table that `rsft predict` wrote, or a chip store.
        count: Number of chips.
        bundle: Bundle. A chip store needs it; a table in CSV has no training counts
            without.
    """
    from rsft.data.chips.store import MANIFEST
    from rsft.inference.predict.predictor import Predictor
    from rsft.models.bundle.bundle import Bundle
    from rsft.plugins.suggestions.label_check import suggest_label_checks
    from rsft.plugins.suggestions.page import write_suggestion_page
    from rsft.plugins.suggestions.suggest import suggest_chips
    from rsft.utils.tables import write_csv_table

    check_outputs(out, html, overwrite)
    is_store = (source / MANIFEST).is_file()
    if is_store and bundle is None:
        message = "a chip store needs a bundle that classifies its chips"
        raise RequestError(message, source, "give --bundle BUNDLE")
    if split is not None and not is_store:
        message = "--split only works with a chip store"
        raise RequestError(message, "--split", "leave it out")
    if is_store and bundle is not None:
        predictor = Predictor.load(bundle)
        suggestions = suggest_label_checks(source, predictor, count, split)
    else:
        loaded = None if bundle is None else Bundle.load(bundle)
        suggestions = suggest_chips(source, count, loaded)
    if html is not None:
        store = str(source) if is_store else "STORE"
        write_suggestion_page(html, suggestions, bundle, store)
    if out is not None:
        write_csv_table(suggestions.table, out)
    show_suggestions(suggestions, {"table": out, "page": html}, as_json)


def check_outputs(table: Path | None, page: Path | None, overwrite: bool) -> None:
    """Raise a RequestError if the files of suggestions cannot be written."""
    from rsft.inference.writers.tables import check_output_file

    if table is not None:
        check_output_file(table, (".csv",), overwrite)
    if page is not None:
        check_output_file(page, (".html", ".htm"), overwrite)


@options.documented
def data_audit_labels(
    root: Annotated[Path, Argument("Chip store made by `rsft prepare`.")],
    out: TableOption = None,
    bundle: Annotated[Path | None, Option(access=Access.BUNDLE)] = None,
    count: Annotated[int | None, Option(min=1)] = None,
    html: PageOption = None,
    overwrite: bool = False,
) -> None:
    """Rank the chips of a chip store whose labels are probably wrong.

    Their labels are contradicted by classifiers that were fitted on chips of other
    scenes. Nothing is written into the store.

    Args:
        bundle: Bundle or run whose features are used (default: the embedded encoder). A
            model that was trained on these chips has seen their labels: only its
            features are used, not its predictions, and wrong labels that it learned may
            be missing.
        count: Number of chips in the files (default: all whose label is contradicted).
    """
    from rsft.data.chips.store import ChipStore
    from rsft.plugins.suggestions.label_audit import (
        predict_out_of_fold,
        read_audit_inputs,
    )
    from rsft.plugins.suggestions.label_check import suggest_audited_labels
    from rsft.plugins.suggestions.page import write_suggestion_page
    from rsft.utils.tables import write_csv_table

    check_outputs(out, html, overwrite)
    store = ChipStore.open(root)
    with progress() as report:
        inputs = read_audit_inputs(store, bundle, progress=report)
        result = predict_out_of_fold(inputs, store.classes, report)
    audited = suggest_audited_labels(
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
    page = html if rows else None  # a page without chips is refused
    if out is not None:
        write_csv_table(audited.table, out)
    if page is not None:
        write_suggestion_page(page, audited, bundle, str(root))
    show_suggestions(audited, {"table": out, "page": page}, shown=_SHOWN)


def show_suggestions(
    suggestions: Suggestions,
    outputs: Mapping[str, Path | None],
    as_json: bool = False,
    shown: int | None = None,
) -> None:
    """Print the chips with the reason for each one, and notes, or one JSON object.

    Args:
        suggestions: the chips.
        outputs: "table" and "page": the files that were written; None for those that
            were not.
        as_json: print JSON.
        shown: number of chips in the table; None for all.
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
        for number, (row, name) in enumerate(
            zip(rows[:shown], names[:shown], strict=True), 1
        )
    ]
    columns = ("", "chip", "predicted", "reason")
    if cells:
        console.print(make_table("", columns, cells, texts=columns))
    if len(cells) < len(rows):
        console.print(
            f"and {len(rows) - len(cells):,} more, which --out and --html write"
        )
    console.print(f"{len(rows):,} of {format_chip_count(suggestions.candidates)}")
    for note in suggestions.notes:
        console.print(note, soft_wrap=True)
    show_paths(paths)
    if "table" in paths:
        console.print(
            "fill in class or verdict in the table, then run: rsft data add STORE"
            " TABLE",
            soft_wrap=True,
        )
