"""Write the review page, which shows the least certain chips, their scenes and how they were classified."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

from rsft.inference.writers.columns import FORMAT_COLUMNS, table_columns
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors, render_template
from rsft.types import Bytes
from rsft.utils.atomic_files import write_text

if TYPE_CHECKING:
    from rsft.scenes.raster import RasterScene

MAX_CHIPS = 2000
"""Largest number of chips on a page, at about 4 kB each. The page shows the first, or
the least certain ones."""

_DETAILS = (
    "class_2",
    "probability_2",
    "class_set",
    "ood",
    "length_m",
    "length_from",
    "row",
    "col",
    "lon",
    "lat",
)
_SCENE_SIDES = (
    1400,
    3000,
)  # smallest and largest picture of a scene, which may have more pixels
_SCENE_PIXELS = 9_000_000  # of the pictures of all scenes, about 0.3 bytes each
_POLICY = (  # the browser runs the script of the page, and loads nothing
    "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src"
    " data:; base-uri 'none'; form-action 'none'"
)
_SCRIPTS = ("dom.js", "labels.js", "map.js", "page.js")  # joined in this order
_PERCENTILES = (1, 99)
_JPEG_OPTIONS = [cv2.IMWRITE_JPEG_QUALITY, 75]
_TABLE = "corrected.csv"
_DEFAULT_BANDS = (
    ["gray"],
    ["R", "G", "B"],
)  # `rsft prepare folder` needs no --bands for these


def scene_pixels(scene: RasterScene, side: int) -> Bytes:
    """Read the first band of a scene, stretched between the 1st and 99th percentile of the stored values.

    Complex values become their modulus. Single pixels are taken then, because the mean
    of complex values is about 0.

    Args:
        scene: the scene.
        side: largest side of the picture in pixels.

    Returns:
        Bytes (H, W); pixels without data are 0.
    """
    from rasterio.enums import Resampling

    from rsft.data.imagery.rasters import open_raster
    from rsft.scenes.georeference import ignore_georeference_warnings

    scale = min(1.0, side / max(scene.height, scene.width))
    size = max(1, round(scene.height * scale)), max(1, round(scene.width * scale))
    with ignore_georeference_warnings(), open_raster(scene.files[0]) as file:
        if file.dtypes[0].startswith("complex"):
            resampling = Resampling.nearest
        else:
            resampling = Resampling.average
        band = file.read(1, out_shape=size, resampling=resampling, masked=True).filled(
            0
        )
    values = np.asarray(np.abs(band) if np.iscomplexobj(band) else band, np.float32)
    has_data = np.isfinite(values) & (values != 0)
    low, high = (
        np.percentile(values[has_data], _PERCENTILES) if has_data.any() else (0.0, 1.0)
    )
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.where(has_data, np.rint(255 * scaled), 0).astype(np.uint8)


def training_commands(
    metadata: Mapping[str, Any],
    bundle: Path,
    store: str,
    from_scenes: bool,
    chips: Sequence[str] = (),
) -> dict[str, str]:
    """Return the commands for a saved table of labels.

    Chips that were cut from scenes have the bands of the bundle, and the unit in which
    the scenes were read. Their files state both, which `rsft data add` reads.

    Args:
        metadata: metadata of the predictions table.
        bundle: the bundle, or the folder of its run.
        store: the chip store on which the bundle was trained.
        from_scenes: whether the chips were cut from scenes.
        chips: absolute paths of the files of the chips, which need not lie beside the
            saved table.

    Returns:
        "add" adds the labels to the training data of the bundle, "finetune" continues
        the training of the bundle, and "prepare" makes a new chip store of the labels.
    """
    declared = metadata["request"]["declaration"]
    units = {product.get("unit") for product in metadata.get("products", ())}
    if from_scenes and len(units) == 1:
        unit = units.pop()
    else:
        unit = declared["unit"]
    if from_scenes or not declared["bands"]:
        bands = metadata["bands"]
    else:
        bands = declared["bands"]
    new_store = _options(unit, None if bands in _DEFAULT_BANDS else bands)
    if from_scenes:
        added = []
    else:
        added = _options(declared["unit"], declared["bands"])
    added += _source_options(chips)
    commands = {
        "add": ["data", "add", store, _TABLE, *added],
        "finetune": ["finetune", "--from", str(bundle)],
        "prepare": [
            "prepare",
            "folder",
            _TABLE,
            "--root",
            "data/corrected",
            *new_store,
        ],
    }
    return {name: shlex.join(["rsft", *words]) for name, words in commands.items()}


def _source_options(files: Sequence[str]) -> list[str]:
    """Return the option that names the folder of all files; none if they have no folder but the root in common."""
    try:
        folder = Path(os.path.commonpath([os.path.dirname(file) for file in files]))  # noqa: PTH120
    except ValueError:  # no files, or several drives of Windows
        return []
    if folder == folder.parent:
        return []
    return ["--source", str(folder)]


def _options(unit: str | None, bands: Sequence[str] | None) -> list[str]:
    return [
        *(("--unit", unit) if unit else ()),
        *(("--bands", ",".join(bands)) if bands else ()),
    ]


def write_review_page(
    path: Path,
    layer: PredictionLayer,
    thumbnails: Sequence[bytes],
    scenes: Sequence[RasterScene],
    bundle: Path | None,
    store: str,
    table_path: Path,
    warnings: Sequence[str] = (),
    *,
    ranked: bool = False,
    command: str | None = None,
) -> None:
    """Write the review page of a predictions table.

    Args:
        path: path of the page.
        layer: the table.
        thumbnails: one JPEG per row of the table.
        scenes: scenes from which the chips were cut; empty if the inputs were chips.
        bundle: the bundle, for the commands that train on the labels; not needed with
            `command`.
        store: the chip store on which it was trained.
        table_path: the file of the table. Saved labels name it, so that `rsft data add`
            can cut the chips again.
        warnings: sentences at the top of the page, such as how many chips are unlike
            the training chips.
        ranked: whether the rows are in the order in which they should be reviewed; else
            the least certain ones come first.
        command: command that takes the saved file, in place of those that train on the
            labels.
    """
    from markupsafe import Markup

    table = layer.table.assign(thumb=list(thumbnails))
    table = (table if ranked else table.sort_values("probability", kind="stable")).head(
        MAX_CHIPS
    )
    others = {*table_columns(layer.classes), *FORMAT_COLUMNS}
    if "at" in table:
        attributes = ["at", *(name for name in table.columns if name not in others)]
    else:
        attributes = []
    has_files = not scenes or layer.metadata["request"]["chips_dir"] is not None
    can_label = (
        has_files or table_path.suffix.lower() != ".csv"
    )  # a CSV table does not say how chips were cut
    side = min(
        _SCENE_SIDES[1],
        max(_SCENE_SIDES[0], math.isqrt(_SCENE_PIXELS // max(len(scenes), 1))),
    )
    pictures = [
        bytes(cv2.imencode(".jpg", scene_pixels(scene, side), _JPEG_OPTIONS)[1])
        for scene in scenes
    ]
    chips = [
        _chip(row, layer.classes, attributes, has_files)
        for row in table.to_dict("records")
    ]
    data = {
        "chips": chips,
        "classes": [
            {"name": name, "color": color}
            for name, color in class_colors(layer.classes).items()
        ],
        "scenes": [
            {
                "name": scene.path.name,
                "width": scene.width,
                "height": scene.height,
                "picture": _jpeg_uri(picture),
            }
            for scene, picture in zip(scenes, pictures, strict=True)
        ],
        "can_label": can_label,
        "table": str(table_path.absolute()) if scenes else None,
        "key": (
            f"rsft review {path.stem} {layer.metadata['bundle_sha256'][:12]}"
            f" {layer.metadata['created']}"
        ),
    }
    chip_files = [chip["path"] for chip in chips if chip["path"]]
    folder = files("rsft.inference.review")
    script = "".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    page = render_template(
        "rsft.inference.review",
        "page.html",
        title=path.stem,
        shown=len(table),
        total=len(layer.table),
        metadata=layer.metadata,
        warnings=warnings,
        ranked=ranked,
        can_label=can_label,
        has_files=has_files,
        command=command,
        commands=(
            {}
            if bundle is None
            else training_commands(
                layer.metadata, bundle, store, bool(scenes), chip_files
            )
        ),
        style=Markup((folder / "page.css").read_text("utf-8")),
        policy=_POLICY.format(
            hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        ),
        script=Markup(script),
        data=Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")),
    )
    write_text(path, page)


def _chip(
    row: Mapping[Any, Any],
    classes: Sequence[str],
    attributes: Sequence[str],
    with_path: bool,
) -> dict[str, Any]:
    chip = {
        "chip": row["chip"],
        "class": row["class"],
        "probability": row["probability"],
    }
    chip |= {
        name: _python_value(row[name])
        for name in _DETAILS
        if name in row and not pd.isna(row[name])
    }
    chip["attributes"] = {
        name: _python_value(row[name]) for name in attributes if not pd.isna(row[name])
    }
    chip["all"] = [
        None if pd.isna(row[f"p_{name}"]) else _python_value(row[f"p_{name}"])
        for name in classes
    ]
    chip["scene"] = row.get("scene")
    chip["path"] = str(Path(row["path"]).absolute()) if with_path else None
    chip["thumb"] = _jpeg_uri(row["thumb"])
    return chip


def _jpeg_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _python_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
