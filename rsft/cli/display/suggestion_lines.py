"""Print suggested chips."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.table import Table

from rsft.cli.display.console import console, format_chip_count, show_paths
from rsft.inference.suggestion.suggest import Suggestions


def show_suggestions(suggestions: Suggestions, outputs: Mapping[str, Path | None]) -> None:
    """Print a table of the chips with the reason for each one, then notes.

    Args:
        suggestions: the chips.
        outputs: "table" and "page": the files that were written; None for those that were not.
    """
    rows = suggestions.table.to_dict("records")
    if rows:
        table = Table("", "chip", "predicted", "reason", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, (row, chip) in enumerate(zip(rows, _chip_names(suggestions), strict=True), 1):
            table.add_row(str(number), chip, row["predicted"], row["reason"])
        console.print(table)
    console.print(f"{len(rows):,} of {format_chip_count(suggestions.candidates)}")
    for note in suggestions.notes:
        console.print(note, soft_wrap=True)
    show_paths({name: path for name, path in outputs.items() if path is not None})
    if outputs["table"] is not None:
        console.print("fill in class or verdict in the table, then run: rsft data add STORE TABLE", soft_wrap=True)


def emit_suggestions(suggestions: Suggestions, outputs: Mapping[str, Path | None]) -> None:
    """Print the same as one JSON object.

    Args:
        suggestions: the chips.
        outputs: "table" and "page": the files that were written; None for those that were not.
    """
    content: dict[str, object] = {
        "chips": suggestions.table.drop(columns=["class", "verdict"]).to_dict("records"),
        "candidates": suggestions.candidates,
        "notes": suggestions.notes,
    }
    content |= {name: None if path is None else str(path) for name, path in outputs.items()}
    print(json.dumps(content, indent=1))


def _chip_names(suggestions: Suggestions) -> list[str]:
    """Return the name of each chip: that in the predictions, which differs from the file for chips in scenes."""
    if "chip" in suggestions.predictions:
        return [str(name) for name in suggestions.predictions["chip"]]
    return [Path(path).name for path in suggestions.table["path"]]
