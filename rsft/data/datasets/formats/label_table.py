"""Labeled image files in the rows of a CSV table of paths and classes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import (
    describe_rejections,
    describe_verdict_fault,
    parse_verdict,
    resolve_label,
)
from rsft.data.datasets.formats.label_rows import describe_row_fault
from rsft.data.datasets.formats.labeled_files import LabeledRows
from rsft.errors import RequestError
from rsft.utils.untrusted.text_tables import (
    SYNONYMS,
    Synonyms,
    check_names,
    find_columns,
    read_text_table,
)

COLUMNS: Synonyms = {
    "path": ("path", "filepath", "file", "filename", "image", "imagepath", "imagename"),
    "class": SYNONYMS["class"],
    "split": ("split",),
    "verdict": ("verdict",),
}
"""Names of the columns by their role, in lower case, without punctuation."""


class LabelTable(LabeledRows):
    """The images in the rows of a CSV table.

    The columns are `path` (relative to the folder of the table), `class` and optionally
    `split` and `verdict`; `COLUMNS` lists their other names. Rows without a split
    belong to the training split. A verdict is "class" (or nothing), "not a target" or
    "unsure"; unsure rows have no label. Other columns are ignored.

    Args:
        path: the table.
        not_a_target: class of the rows that are not a target; None leaves them out.

    Attributes:
        files: in the order of the rows.
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
        self._set_classes()
        self.root = Path(os.path.commonpath([file.path.parent for file in self.files]))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = read_text_table(path).cells
    except OSError as error:
        raise RequestError(
            f"the table cannot be read: {error.strerror}",
            path,
            "give a CSV table of labels",
        ) from error
    names = list(table.columns)
    numbers = find_columns(names, COLUMNS)
    check_names(names, numbers.values(), path)
    missing = [name for name in ("path", "class") if name not in numbers]
    if missing:
        raise RequestError(
            f"the table has no column {', '.join(missing)}; it has"
            f" {list_first_names(names)}",
            path,
            "it needs path and class: rename the columns",
        )
    table = table.iloc[:, list(numbers.values())].set_axis(list(numbers), axis=1)
    return table.reindex(columns=list(COLUMNS), fill_value="")
