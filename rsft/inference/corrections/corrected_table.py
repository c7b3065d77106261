"""Read a corrected table: of the review page, or of predictions with labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.chips.record import describe_verdict_fault, parse_verdict
from rsft.errors import RequestError
from rsft.inference.prediction_table import (
    is_missing,
    number_cells,
    read_table_file,
    text_cells,
)

DEFAULT_FIELD = "corrected"
"""Field of a table of predictions that contains the labels."""


@dataclass(frozen=True)
class CorrectedRow:
    """One row of a corrected table.

    Texts are "", numbers NaN and others None if they are unknown.

    Attributes:
        line: line of a CSV table, feature id of a GeoPackage, else the number of the
            row from 1.
        verdict: a class, "not a target" or "unsure"; "" if nobody looked at the row.
        path: the file of the chip, or of its scene.
        row: row of the center in pixels of the scene; `col` is its column.
        bundle: SHA-256 of the bundle.
        fault: why the verdict cannot be used; "" if it can.
    """

    line: int
    verdict: str
    path: str
    predicted: str = ""
    scene: str = ""
    chip: str = ""
    row: float = np.nan
    col: float = np.nan
    shape: Any = None
    incidence_deg: float | None = None
    split: str = ""
    bundle: str = ""
    fault: str = ""


@dataclass(frozen=True)
class CorrectedTable:
    """A corrected table, and how the predictions were made, if its file contains it."""

    path: Path
    rows: list[CorrectedRow]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle that made the predictions; "" if unknown."""
        return str(self.metadata.get("bundle_sha256", ""))


def read_corrected_table(path: Path, label_field: str | None = None) -> CorrectedTable:
    """Read a corrected table.

    Args:
        path: the CSV table of the review page (columns path, class, verdict), or a
            table of predictions as GeoPackage, GeoJSON, GeoParquet or CSV.
        label_field: field of the labels in a table of predictions (default:
            "corrected").

    Raises:
        RequestError: the file cannot be read, or has no field of labels.
    """
    frame, metadata = read_table_file(
        path, "give the .csv of the review page, or a table of `rsft predict`"
    )
    # a table of predictions has chips
    has_verdicts = "verdict" in frame or "chip" not in frame
    is_csv = path.suffix.lower() == ".csv" and label_field is None
    is_page = is_csv and {"path", "class"} <= set(frame) and has_verdicts
    if is_page:
        frame, metadata = _join_predictions(frame, path)
    name = "class" if is_page else label_field or DEFAULT_FIELD
    labels = text_cells(frame, _find_field(frame, name, path))
    verdicts = text_cells(frame, "verdict" if is_page else "")
    columns: dict[str, Any] = {
        "line": frame["_line"].tolist(),
        "verdict": map(parse_verdict, labels, verdicts),
        "fault": map(describe_verdict_fault, verdicts) if is_page else verdicts,
        "predicted": text_cells(frame, "predicted" if is_page else "class"),
        "shape": _cells_or_none(frame.get("geometry", [None] * len(frame))),
        "incidence_deg": _cells_or_none(number_cells(frame, "incidence_deg")),
    }
    for name in ("path", "scene", "chip"):
        columns[name] = text_cells(frame, name)
    for name in ("split", "bundle"):
        columns[name] = text_cells(frame, name if is_page else "")
    for name in ("row", "col"):
        columns[name] = number_cells(frame, name)
    rows = []
    for cells in zip(*columns.values(), strict=True):
        rows.append(CorrectedRow(**dict(zip(columns, cells, strict=True))))
    return CorrectedTable(path, rows, metadata)


def _find_field(frame: pd.DataFrame, name: str, path: Path) -> str:
    """Return the field of a name, in this case if there is one, else in any case."""
    fields = [str(column) for column in frame if column not in ("_line", "geometry")]
    if name in fields:
        return name
    for field_name in fields:
        if field_name.casefold() == name.casefold():
            return field_name
    hint = f"add a text field {name} with the corrected classes, or name another one"
    hint += f" with --field: {', '.join(fields)}"
    raise RequestError(f"the table has no field {name}", path, hint)


def _cells_or_none(cells: Iterable[Any]) -> list[Any]:
    return [None if is_missing(cell) else cell for cell in cells]


def _join_predictions(
    frame: pd.DataFrame, path: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Add what the table of predictions says about the chips of a review page.

    So they can be cut again.

    The table may have been replaced since. So a row only belongs to a chip of the same
    name, scene and center.

    Returns:
        The table with shapes and incidence angles, and the metadata of the predictions.
        Without a table of predictions, the same table without metadata.
    """
    names = sorted(set(text_cells(frame, "table")) - {""})
    if len(names) > 1:
        raise RequestError(
            f"the rows name {len(names)} tables of predictions: {', '.join(names)}",
            path,
            "add the labels of each review page by themselves",
        )
    file = None
    for name in names:  # it may have been moved
        for candidate in (Path(name), path.parent / Path(name).name):
            if file is None and candidate.is_file():
                file = candidate
    if file is None:
        return frame, {}
    predictions, metadata = read_table_file(
        file, "give the table that `rsft predict` wrote"
    )
    chips = predictions.set_axis(text_cells(predictions, "chip"))
    chips = chips[~chips.index.duplicated(keep="last")].reindex(
        text_cells(frame, "chip")
    )
    centers = np.array([number_cells(frame, name) for name in ("row", "col")])
    others = np.array([number_cells(chips, name) for name in ("row", "col")])
    is_same = np.isclose(centers, others, atol=0.01, rtol=0).all(axis=0)
    is_same &= np.array(text_cells(frame, "scene"), object) == np.array(
        text_cells(chips, "scene"), object
    )
    chips = (
        chips.reindex(columns=["geometry", "incidence_deg"])
        .set_axis(frame.index)
        .assign(row=frame.get("row"))
    )
    columns = {
        name: chips[name].where(is_same, None)
        for name in ("geometry", "incidence_deg", "row")
    }
    return frame.assign(**columns), metadata
