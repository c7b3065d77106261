"""Read a corrected table: of the review page, or of predictions with labels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rsft.corrections.sources import Sources
from rsft.data.chips.record import describe_verdict_fault, parse_verdict
from rsft.errors import RequestError
from rsft.inference.prediction_table import number_cells, read_table_file, text_cells
from rsft.types import JsonObject

DEFAULT_FIELD = "corrected"
"""Field of a table of predictions that contains the labels."""

_TEXTS = ("path", "predicted", "scene", "chip", "split", "bundle")
_NUMBERS = ("row", "col", "incidence_deg")


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
    fault: str
    path: str
    predicted: str
    scene: str
    chip: str
    split: str
    bundle: str
    row: float
    col: float
    incidence_deg: float
    geometry: Any


@dataclass(frozen=True)
class CorrectedTable:
    """A corrected table, and how the predictions were made, if its file contains it."""

    path: Path
    rows: list[CorrectedRow]
    metadata: JsonObject = field(default_factory=dict)

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 of the bundle that made the predictions; "" if unknown."""
        return str(self.metadata.get("bundle_sha256", ""))


def read_corrected_table(
    path: Path, label_field: str | None = None, sources: Sources | None = None
) -> CorrectedTable:
    """Read a corrected table.

    Args:
        path: the CSV table of the review page (columns path, class, verdict), or a
            table of predictions as GeoPackage, GeoJSON, GeoParquet or CSV.
        label_field: field of the labels in a table of predictions (default:
            "corrected").
        sources: the files that the table may name; None allows every one.

    Raises:
        RequestError: the file cannot be read, has no field of labels, or names a table
            of predictions that is not in `sources`.
    """
    frame, metadata = read_table_file(
        path, "give the .csv of the review page, or a table of `rsft predict`"
    )
    # a table of predictions has chips
    has_verdicts = "verdict" in frame or "chip" not in frame
    is_csv = path.suffix.lower() == ".csv" and label_field is None
    if is_csv and has_verdicts and {"path", "class"} <= set(frame):
        frame, metadata = _join_predictions(frame, path, sources or Sources(path, path))
    else:
        labels = frame[_find_field(frame, label_field or DEFAULT_FIELD, path)]
        frame = frame.drop(columns=["verdict", "split", "bundle"], errors="ignore")
        frame = frame.assign(**{"predicted": frame.get("class"), "class": labels})
    verdicts = text_cells(frame, "verdict")
    rows = map(  # the columns have the order of the fields
        CorrectedRow,
        frame["_line"],
        map(parse_verdict, text_cells(frame, "class"), verdicts),
        map(describe_verdict_fault, verdicts),
        *(text_cells(frame, name) for name in _TEXTS),
        *(number_cells(frame, name) for name in _NUMBERS),
        frame.get("geometry", [None] * len(frame)),
    )
    return CorrectedTable(path, list(rows), metadata)


def _find_field(frame: pd.DataFrame, name: str, path: Path) -> str:
    """Return the field of a name, in this case if there is one, else in any case."""
    fields = [str(column) for column in frame if column not in ("_line", "geometry")]
    for field_name in [name, *fields]:
        if field_name in fields and field_name.casefold() == name.casefold():
            return field_name
    raise RequestError(
        f"the table has no field {name}",
        path,
        f"add a text field {name} with the corrected classes, or name another one with"
        f" --field: {', '.join(fields)}",
    )


def _join_predictions(
    frame: pd.DataFrame, path: Path, sources: Sources
) -> tuple[pd.DataFrame, JsonObject]:
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
    name = Path("".join(names))
    file = sources.find_file([name, path.parent / name.name], path)
    if not file:
        return frame, {}
    predictions, metadata = read_table_file(
        file, "give the table that `rsft predict` wrote"
    )
    chips = predictions.set_axis(_chip_keys(predictions))
    chips = chips[~chips.index.duplicated(keep="last")].reindex(_chip_keys(frame))
    columns = {
        name: chips[name].to_numpy(object) if name in chips else None
        for name in ("geometry", "incidence_deg", "row")
    }
    return frame.assign(**columns), metadata


def _chip_keys(frame: pd.DataFrame) -> list[str]:
    """Return name, scene and center of each chip."""
    centers = zip(number_cells(frame, "row"), number_cells(frame, "col"), strict=True)
    texts = zip(text_cells(frame, "chip"), text_cells(frame, "scene"), strict=True)
    return [
        f"{chip} {scene} {row:.1f} {col:.1f}"
        for (chip, scene), (row, col) in zip(texts, centers, strict=True)
    ]
