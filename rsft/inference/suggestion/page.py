"""Write the review page of suggested chips."""

from pathlib import Path

import cv2

from rsft.data.chips.sidecars import render_thumbnail
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.review.page import write_review_page
from rsft.inference.suggestion.suggest import Suggestions
from rsft.inference.writers.columns import probability_columns
from rsft.inference.writers.layer import PredictionLayer

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
        RequestError: the table has no metadata, no chip was suggested, or a chip has no
            file of its own.
        DataError: a chip cannot be read.
    """
    missing = [key for key in _KEYS if key not in suggestions.metadata]
    if missing:
        raise RequestError(
            f"a page needs the metadata of the table, which lacks {', '.join(missing)}",
            path,
            "give the .gpkg, .geojson or .parquet that `rsft predict` wrote",
        )
    if suggestions.table.empty:
        raise RequestError(
            "no chip was suggested, so the page would be empty",
            path,
            "leave out --html",
        )
    for name, scene in zip(
        suggestions.table["path"], suggestions.table["scene"], strict=True
    ):
        if Path(name).name == scene or not Path(name).is_file():
            raise RequestError(
                "a suggested chip has no file of its own",
                name,
                (
                    "run `rsft predict` with --chips DIR, and both commands in the same"
                    " folder"
                ),
            )
    table = suggestions.predictions.copy()
    table["at"] = table["at"].where(table["at"] != "", None) if "at" in table else None
    reasons = suggestions.table["reason"].to_list()
    table = table.drop(columns="corrected", errors="ignore").assign(
        reason=reasons, geometry=None
    )
    if "probability" not in table:
        table["probability"] = table[probability_columns(suggestions.classes)].max(
            axis=1
        )
    pictures = [
        render_thumbnail(read_chip(Path(name))) for name in suggestions.table["path"]
    ]
    thumbnails = [
        bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
        for picture in pictures
    ]
    layer = PredictionLayer(table, None, suggestions.classes, suggestions.metadata)
    bundle = bundle or Path("BUNDLE")
    write_review_page(
        path, layer, thumbnails, (), bundle, store, path, ranked=True
    )  # no table cuts chips with files
