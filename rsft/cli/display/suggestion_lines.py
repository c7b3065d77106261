"""Print suggested chips."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from rsft.cli.display.console import console, format_chip_count
from rsft.inference.suggestion.suggest import Suggestions


def show_suggestions(suggestions: Suggestions, output_path: Path | None) -> None:
    """Print a table of the chips with the reason for each one, then notes.

    Args:
        suggestions: the chips.
        output_path: the CSV that was written; None if none was.
    """
    rows = suggestions.table.to_dict("records")
    if rows:
        table = Table("", "chip", "predicted", "reason", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, (row, chip) in enumerate(zip(rows, _chip_names(suggestions), strict=True), 1):
            table.add_row(str(number), escape(chip), escape(row["predicted"]), escape(row["reason"]))
        console.print(table)
    console.print(f"{len(rows):,} of {format_chip_count(suggestions.candidates)}")
    for note in suggestions.notes:
        console.print(note, soft_wrap=True, markup=False)
    if output_path is not None:
        console.print(
            f"{output_path}: fill in class or verdict, then: rsft data add STORE {output_path}",
            soft_wrap=True,
            markup=False,
        )


def emit_suggestions(suggestions: Suggestions, output_path: Path | None) -> None:
    """Print the same as one JSON object.

    Args:
        suggestions: the chips.
        output_path: the CSV that was written; None if none was.
    """
    content = {
        "chips": suggestions.table.drop(columns=["class", "verdict"]).to_dict("records"),
        "candidates": suggestions.candidates,
        "notes": suggestions.notes,
        "output": None if output_path is None else str(output_path),
    }
    print(json.dumps(content, indent=1))


def _chip_names(suggestions: Suggestions) -> list[str]:
    """Return the name of each chip: that in the predictions, which differs from the file for chips in scenes."""
    if "chip" in suggestions.predictions:
        return [str(name) for name in suggestions.predictions["chip"]]
    return [Path(path).name for path in suggestions.table["path"]]
