"""Labeled image files in the rows of a CSV table of paths and classes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import (
    describe_rejections,
    describe_verdict_fault,
    parse_verdict,
    resolve_label,
)
from rsft.data.datasets.formats.label_rows import (
    describe_row_fault,
    sort_class_names,
)
from rsft.data.datasets.formats.labeled_files import LabeledRows
from rsft.errors import RequestError
from rsft.utils.untrusted.text_tables import read_text_table


class LabelTable(LabeledRows):
    """The images in the rows of a CSV table.

    The columns are `path` (relative to the folder of the table), `class` and optionally
    `split` and `verdict`. Rows without a split belong to the training split. A verdict
    is "class" (or nothing), "not a target" or "unsure"; unsure rows have no label.
    Other columns are ignored.

    Args:
        path: the table.
        not_a_target: class of the rows that are not a target; None leaves them out.

    Attributes:
        files: in the order of the rows.
        classes: class names, sorted as in `sort_class_names`.
        root: the folder that contains all images.

    Raises:
        RequestError: the table cannot be read, lacks a column, or has no usable row.
    """

    def __init__(self, path: Path, not_a_target: str | None = None) -> None:
        super().__init__()
        table = _read_table(path)
        for number, row in zip(table.index, table.to_dict("records"), strict=True):
            image = (path.parent / row["path"]).absolute()
            verdict = parse_verdict(row["class"], row["verdict"])
            split = row["split"].strip() or "train"
            label, reason = resolve_label(verdict, not_a_target)
            if reason:
                self.skipped[reason] += 1
                continue
            fault = describe_verdict_fault(row["verdict"])
            if split not in SPLITS:
                fault = f"unknown split {split}; it must be train, val or test"
            fault = fault or describe_row_fault(image.name, label)
            self.add(path, number, image, label, split, fault)
        if not self.files:
            hint = "each row needs an existing file and a class"
            hint = describe_rejections(self.rejected, self.skipped, hint)
            raise RequestError("no row of the table can be used", path, hint)
        self.classes = sort_class_names({file.label for file in self.files})
        self.root = Path(os.path.commonpath([file.path.parent for file in self.files]))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = read_text_table(path).cells
    except OSError as error:
        raise RequestError(
            f"the table cannot be read: {error}", path, "save it as CSV in UTF-8"
        ) from error
    missing = [name for name in ("path", "class") if name not in table]
    if missing:
        raise RequestError(
            f"the table has no column {', '.join(missing)}",
            path,
            "it needs path and class",
        )
    for name in ("split", "verdict"):
        if name not in table:  # reindex refuses a column that is there twice
            table[name] = ""
    return table
