"""Labeled images in a CSV table with one path and class per row, as the review page of `rsft predict` saves it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pandas as pd

from rsft.data.chips.verdicts import describe_verdict_fault, parse_verdict, resolve_label
from rsft.data.datasets._image_files import LabeledFile, sort_class_names
from rsft.data.datasets._text import describe_row_fault, find_separator, is_file
from rsft.errors import RequestError
from rsft.types import Rejection
from rsft.utils.csv_cells import unescape_table

_SPLITS = ("train", "val", "test")


class LabelTable:
    """The images in the rows of a CSV table.

    The columns are `path` (relative to the folder of the table), `class` and optionally `split` and `verdict`. Rows
    without a split belong to the training split. A verdict is "class" (or nothing), "not a target" or "unsure"; unsure
    rows have no label. Other columns are ignored.

    Args:
        path: the table.
        not_a_target: class of the rows that are not a target; None leaves them out.

    Attributes:
        files: in the order of the rows.
        classes: class names, sorted by number if all are numbers, else alphabetically.
        root: the folder that contains all images.
        skipped: number of rows without a label, by reason.
        rejected: rows that cannot be used.

    Raises:
        RequestError: the table cannot be read, lacks a column, or has no usable row.
    """

    def __init__(self, path: Path, not_a_target: str | None = None) -> None:
        self.files: list[LabeledFile] = []
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        seen: dict[Path, int] = {}
        for number, row in enumerate(_read_table(path).to_dict("records"), 2):  # row numbers of a spreadsheet
            image = (path.parent / row["path"]).absolute()
            verdict, split = parse_verdict(row["class"], row["verdict"]), row["split"].strip() or "train"
            label, reason = resolve_label(verdict, not_a_target)
            if reason:
                self.skipped[reason] += 1
                continue
            fault = describe_verdict_fault(row["verdict"]) or _describe_fault(image, label, split, seen)
            if fault:
                self.rejected.append((str(path), number, fault))
                continue
            seen[image] = number
            self.files.append(LabeledFile(image, label, split))
        if not self.files:
            raise RequestError("no row of the table can be used", path, self._hint())
        self.classes = sort_class_names({file.label for file in self.files})
        self.root = Path(os.path.commonpath([file.path.parent for file in self.files]))

    def _hint(self) -> str:
        """Return why no row can be used."""
        counts = [f"{count:,} {reason}" for reason, count in self.skipped.items()]
        counts += [f"{len(self.rejected):,} rejected: {self.rejected[0][2]}"] if self.rejected else []
        return "; ".join(["each row needs an existing file and a class", *counts])


def _read_table(path: Path) -> pd.DataFrame:
    try:
        separator = find_separator(path.read_text("utf-8-sig"))
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        table = unescape_table(table)
    except (OSError, ValueError) as error:
        raise RequestError(f"the table cannot be read: {error}", path, "save it as CSV in UTF-8") from error
    missing = [name for name in ("path", "class") if name not in table]
    if missing:
        raise RequestError(f"the table has no column {', '.join(missing)}", path, "it needs path and class")
    return table.assign(**{name: "" for name in ("split", "verdict") if name not in table})


def _describe_fault(image: Path, label: str, split: str, seen: dict[Path, int]) -> str:
    if not is_file(image):
        return f"the file does not exist: {str(image)[:600]}"
    if split not in _SPLITS:
        return f"unknown split {split}; it must be train, val or test"
    if image in seen:
        return f"{image.name} is already listed in line {seen[image]}"
    return describe_row_fault(image.name, label)
