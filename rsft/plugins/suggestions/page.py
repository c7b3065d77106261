"""Write the review page of suggested chips."""

import base64
import shlex
from importlib.resources import files
from pathlib import Path

import numpy as np

from rsft.data.chips.sidecars import render_thumbnail
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.review.page import (
    PageAddition,
    encode_jpeg,
    write_review_page,
)
from rsft.inference.writers.layer import PredictionLayer, creation_metadata
from rsft.plugins.suggestions.first_chips import FirstChips
from rsft.plugins.suggestions.suggest import Suggestions
from rsft.scenes.options import Declaration
from rsft.types import Floats
from rsft.utils.operating_system import path_to_text

_TABLE = "labels.csv"
_KEYS = (
    "bundle_sha256",
    "recipe",
    "rsft_version",
    "created",
    "notes",
    "request",
    "bands",
)


def write_suggestion_page(path: Path, suggestions: Suggestions, store: str) -> None:
    """Write the review page of suggested chips, with the reason for each one.

    Args:
        path: path of the page.
        suggestions: the chips.
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
        thumbnails.append(encode_jpeg(render_thumbnail(read_chip(path_of_chip))))
    rows = suggestions.predictions.drop(columns="corrected", errors="ignore")
    rows = rows.assign(
        reason=table["reason"].to_list(), geometry=None, at=rows.get("at")
    )
    rows["at"] = rows["at"].replace({"": None})
    layer = PredictionLayer(rows, None, suggestions.classes, suggestions.metadata)
    # without scenes, because no table cuts chips that have files
    write_review_page(
        path, layer, thumbnails, (), Path("BUNDLE"), store, path, ranked=True
    )


def write_naming_page(path: Path, chips: FirstChips, declaration: Declaration) -> None:
    """Write the page on which the classes of unlabeled chips are named.

    Args:
        path: path of the page.
        chips: the chips.
        declaration: unit and bands that the user declared.
    """
    paths = [path_to_text(Path(name).absolute()) for name in chips.table["path"]]
    table = chips.table.assign(path=paths, probability=0.0, geometry=None)
    table["chip"] = [Path(name).name for name in paths]
    metadata = {
        "recipe": "labels by hand",
        "bundle_sha256": "",
        **creation_metadata(),
        "notes": chips.suggestions.notes,
    }
    options = []
    if declaration.unit:
        options += ["--unit", declaration.unit]
    if declaration.bands:
        options += ["--bands", ",".join(declaration.bands)]
    words = ["rsft", "finetune", _TABLE]
    if options:
        words += ["--prepare", shlex.join(options)]
    script = (files(__package__) / "naming.js").read_text("utf-8")
    data = encode_vectors(chips.vectors)
    data |= {"starts": len(chips.suggestions.table), "rows": False}
    write_review_page(
        path,
        PredictionLayer(table, None, (), metadata),
        [encode_jpeg(render_thumbnail(pixels)) for pixels in chips.pixels],
        (),
        None,
        "",
        path,
        ranked=True,
        command=shlex.join(words),
        addition=PageAddition(script, data, _TABLE),
    )


def encode_vectors(vectors: Floats) -> dict[str, str | int | float]:
    """Return vectors (N, D) as the page reads them: as int16, in steps."""
    step = float(np.abs(vectors).max()) / np.iinfo(np.int16).max or 1.0
    steps = np.rint(vectors / step).astype("<i2")
    return {
        "vectors": base64.b64encode(steps.tobytes()).decode(),
        "dimensions": vectors.shape[1],
        "step": step,
        "variance": float(vectors.var(axis=0).mean()),
    }
