"""Write the review page of suggested chips."""

from pathlib import Path

import cv2

from rsft.data.chips.sidecars import render_thumbnail
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.review.page import write_review_page
from rsft.inference.writers.columns import probability_columns
from rsft.inference.writers.layer import PredictionLayer
from rsft.plugins.suggestions.suggest import Suggestions

_KEYS = (
    "bundle_sha256",
    "recipe",
    "rsft_version",
    "created",
    "notes",
    "request",
    "bands",
)


def write_suggestion_page(
    path: Path, suggestions: Suggestions, bundle: Path | None, store: str
) -> None:
    """Write the review page of suggested chips, with the reason for each one.

    Args:
        path: path of the page.
        suggestions: the chips.
        bundle: the bundle, for the commands on the page; None if it is unknown.
        store: the chip store that gets the labels, for the commands on the page.

    Raises:
        RequestError: the table has no metadata, or a chip has no file of its own.
        DataError: a chip cannot be read.
    """
    missing = [key for key in _KEYS if key not in suggestions.metadata]
    if missing:
        raise RequestError(
            f"a page needs the metadata of the table, which lacks {', '.join(missing)}",
            path,
            "give the .gpkg, .geojson or .parquet that `rsft predict` wrote",
        )
    table = suggestions.table
    thumbnails = []
    for name, scene in zip(table["path"], table["scene"], strict=True):
        path_of_chip = Path(name)
        if path_of_chip.name == scene or not path_of_chip.is_file():
            raise RequestError(
                "a suggested chip has no file of its own",
                name,
                "run `rsft predict` with --chips DIR, and both commands in the same"
                " folder",
            )
        thumbnails.append(_encode_thumbnail(path_of_chip))
    rows = suggestions.predictions.drop(columns="corrected", errors="ignore")
    rows = rows.assign(reason=table["reason"].to_list(), geometry=None)
    if "at" not in rows:
        rows["at"] = None
    rows["at"] = rows["at"].where(rows["at"] != "", None)
    if "probability" not in rows:
        columns = probability_columns(suggestions.classes)
        rows["probability"] = rows[columns].max(axis=1)
    layer = PredictionLayer(rows, None, suggestions.classes, suggestions.metadata)
    bundle = bundle or Path("BUNDLE")
    # without scenes, because no table cuts chips that have files
    write_review_page(path, layer, thumbnails, (), bundle, store, path, ranked=True)


def _encode_thumbnail(path: Path) -> bytes:
    """Return a small picture of a chip as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    _, data = cv2.imencode(".jpg", render_thumbnail(read_chip(path)), quality)
    return bytes(data)
