"""Write a review page of suggested chips."""

from __future__ import annotations

from pathlib import Path

import cv2

from rsft.data.chips.figures import render_thumbnail
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.review.commands import TrainingSource
from rsft.inference.review.page import write_review_page
from rsft.inference.suggestion.suggest import Suggestions
from rsft.inference.writers.tables import PredictionLayer

_KEYS = ("bundle_sha256", "recipe", "rsft_version", "created", "notes", "request", "bands")


def write_suggestion_page(path: Path, suggestions: Suggestions, bundle: Path | None, store: str) -> None:
    """Write the review page of suggested chips, with the reason for each one.

    Args:
        path: path of the page.
        suggestions: the chips.
        bundle: the bundle, for the commands on the page; None if it is unknown.
        store: the chip store that gets the labels, for the commands on the page.

    Raises:
        RequestError: the table has no metadata, no chip was suggested, or a chip has no file of its own.
        DataError: a chip cannot be read.
    """
    missing = [key for key in _KEYS if key not in suggestions.metadata]
    if missing:
        message = f"a page needs the metadata of the table, which lacks {', '.join(missing)}"
        raise RequestError(message, path, "give the .gpkg, .geojson or .parquet that `rsft predict` wrote")
    if suggestions.table.empty:
        raise RequestError("no chip was suggested, so the page would be empty", path, "leave out --page")
    for name, scene in zip(suggestions.table["path"], suggestions.table["scene"], strict=True):
        if Path(name).name == scene or not Path(name).is_file():
            hint = "run `rsft predict` with --chips DIR, and both commands in the same folder"
            raise RequestError("a suggested chip has no file of its own", name, hint)
    table = suggestions.predictions.copy()
    table["at"] = table["at"].where(table["at"] != "", None) if "at" in table else None
    table = table.drop(columns="corrected", errors="ignore").assign(
        reason=suggestions.table["reason"].to_list(), geometry=None
    )
    if "probability" not in table:
        table["probability"] = table[[f"p_{name}" for name in suggestions.classes]].max(axis=1)
    thumbnails = [_thumbnail(Path(name)) for name in suggestions.table["path"]]
    layer = PredictionLayer(table, None, suggestions.classes, suggestions.metadata)
    source = TrainingSource(bundle or Path("BUNDLE"), store)
    write_review_page(path, layer, thumbnails, (), source, path)  # the chips have files: no table is needed to cut them


def _thumbnail(path: Path) -> bytes:
    picture = render_thumbnail(read_chip(path))
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
