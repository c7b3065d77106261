"""Write the review page of the least certain chips and their scenes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.data.annotations.base import AT
from rsft.inference.writers.columns import (
    FORMAT_COLUMNS,
    page_columns,
    probability_columns,
    table_columns,
)
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors
from rsft.types import Bytes, JsonObject
from rsft.utils.atomic_files import write_text
from rsft.utils.cell.client import in_cell
from rsft.utils.templates import render_template

if TYPE_CHECKING:
    from rsft.scenes.raster import RasterScene

MAX_CHIPS = 2000
"""Largest number of chips on a page, at about 4 kB each. The page shows the first, or
the least certain ones."""

_SCRIPT_COLUMNS = frozenset(
    {"class_set", "ood", "length_m", "length_from", "row", "col", "lon", "lat"}
)
"""Columns that the script of the page shows in words of its own."""

_SCENE_SIDE = 2000  # largest side of the picture of a scene, which may have more
_POLICY = (  # the browser runs the script of the page, and loads nothing
    "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src"
    " data:; base-uri 'none'; form-action 'none'"
)
# joined in this order, with the script of a `PageAddition` before the last one
_SCRIPTS = ("dom.js", "labels.js", "map.js", "page.js")
_PERCENTILES = (1, 99)
_JPEG_QUALITY = 80
_TABLE = "corrected.csv"
_PALETTE = 60  # number of colors of classes that are named on the page


class PageAddition(NamedTuple):
    """What a page without a bundle needs, on which classes are named.

    Attributes:
        script: JavaScript that replaces functions of `hooks`, see dom.js.
        data: values for the script, by name.
        table: name of the saved file.
    """

    script: str
    data: Mapping[str, Any]
    table: str


@in_cell
def scene_pixels(scene: RasterScene, side: int) -> Bytes:
    """Read the first band of a scene as bytes.

    The stored values are stretched between their 1st and 99th percentile. Complex
    values become their modulus. Single pixels are taken then, because the mean of
    complex values is about 0.

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
    height = max(1, round(scene.height * scale))
    width = max(1, round(scene.width * scale))
    with ignore_georeference_warnings(), open_raster(scene.files[0]) as file:
        resampling = Resampling.average
        if file.dtypes[0].startswith("complex"):
            resampling = Resampling.nearest
        band = file.read(
            1, out_shape=(height, width), resampling=resampling, masked=True
        )
    band = band.filled(0)
    values = np.asarray(np.abs(band) if np.iscomplexobj(band) else band, np.float32)
    has_data = np.isfinite(values) & (values != 0)
    if not has_data.any():
        return np.zeros((height, width), np.uint8)
    low, high = np.percentile(values[has_data], _PERCENTILES)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.where(has_data, np.rint(255 * scaled), 0).astype(np.uint8)


def training_commands(
    metadata: JsonObject,
    bundle: Path,
    store: str,
    from_scenes: bool,
    named: Sequence[str] = (),
) -> dict[str, str]:
    """Return the commands for a saved table of labels.

    The files of chips that were cut from scenes state their unit and bands.

    Args:
        metadata: metadata of the predictions table.
        bundle: the bundle, or the folder of its run.
        store: the chip store on which the bundle was trained.
        from_scenes: whether the chips were cut from scenes.
        named: absolute paths of the files that the saved table names, which need not
            lie beside it.

    Returns:
        "add" adds the labels to the training data of the bundle, "finetune" continues
        the training of the bundle, and "prepare" makes a new chip store of the labels.
    """
    added: list[str] = []
    prepared: list[str] = []
    if not from_scenes:
        declared = metadata["request"]["declaration"]
        added = _options(declared["unit"], declared["bands"])
        prepared = _options(declared["unit"], declared["bands"] or metadata["bands"])
    commands = {
        "add": ["data", "add", store, _TABLE, *added, *_source_options(named)],
        "finetune": ["finetune", "--from", str(bundle)],
        "prepare": ["prepare", "folder", _TABLE, "--root", "data/corrected", *prepared],
    }
    return {name: shlex.join(["rsft", *words]) for name, words in commands.items()}


def _source_options(files: Sequence[str]) -> list[str]:
    """Return the option that names the folder of all files.

    There is none if they have no folder but the root in common.
    """
    try:
        folder = Path(os.path.commonpath([os.path.dirname(file) for file in files]))  # noqa: PTH120
    except ValueError:  # no files, or several drives of Windows
        return []
    if folder == folder.parent:
        return []
    return ["--source", str(folder)]


def _options(unit: str | None, bands: Sequence[str] | None) -> list[str]:
    options = []
    if unit:
        options += ["--unit", unit]
    if bands:
        options += ["--bands", ",".join(bands)]
    return options


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
    addition: PageAddition | None = None,
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
        addition: what a page without classes needs; None for predictions.
    """
    addition = addition or PageAddition("", {}, _TABLE)
    table = layer.table.assign(thumb=list(thumbnails))
    if not ranked:
        table = table.sort_values("probability", kind="stable")
    table = table.head(MAX_CHIPS)
    has_files = not scenes or layer.metadata["request"]["chips_dir"] is not None
    # a CSV table does not say how chips were cut
    can_label = has_files or table_path.suffix.lower() != ".csv"
    chips = _describe_chips(table, layer.classes, has_files)
    commands = {}
    if bundle:
        named = [chip["path"] for chip in chips if chip["path"]]
        if scenes:  # the saved table names this one, with the scene of each chip
            named.append(str(table_path.absolute()))
        commands = training_commands(layer.metadata, bundle, store, bool(scenes), named)
    colors = class_colors(layer.classes).items()
    bundle_name = layer.metadata["bundle_sha256"][:12]
    labels = page_columns().items()
    data = {
        "chips": chips,
        "classes": [{"name": name, "color": color} for name, color in colors],
        "columns": {k: v for k, v in labels if k not in _SCRIPT_COLUMNS},
        "scenes": _describe_scenes(scenes),
        "can_label": can_label,
        "table": str(table_path.absolute()) if scenes else None,
        "key": f"rsft review {path.stem} {bundle_name} {layer.metadata['created']}",
        "file": addition.table,
        "palette": list(class_colors(list(map(str, range(_PALETTE)))).values()),
        **addition.data,
    }
    page = _render_page(
        data,
        addition,
        title=path.stem,
        shown=len(table),
        layer=layer,
        warnings=warnings,
        ranked=ranked,
        can_label=can_label,
        has_files=has_files,
        command=command,
        commands=commands,
    )
    write_text(path, page)


def _render_page(data: JsonObject, addition: PageAddition, **texts: Any) -> str:
    """Return the page; it runs no other script than its own."""
    *assets, last = map(_read_asset, _SCRIPTS)
    script = "".join([*assets, addition.script, last])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render_template(
        "rsft.inference.review",
        "page.html",
        escape=True,
        table=addition.table,
        is_named=bool(addition.script),
        style=Markup(_read_asset("page.css")),
        policy=_POLICY.format(hash=digest),
        script=Markup(script),
        data=Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")),
        **texts,
    )


def _read_asset(name: str) -> str:
    return (files("rsft.inference.review") / name).read_text("utf-8")


def _describe_scenes(scenes: Sequence[RasterScene]) -> list[JsonObject]:
    """Return name, size and picture of each scene."""
    described = []
    for scene in scenes:
        picture = encode_jpeg(scene_pixels(scene, _SCENE_SIDE))
        described.append(
            {
                "name": scene.path.name,
                "width": scene.width,
                "height": scene.height,
                "picture": _jpeg_uri(picture),
            }
        )
    return described


def _describe_chips(
    table: pd.DataFrame, classes: Sequence[str], has_files: bool
) -> list[JsonObject]:
    """Return what the page shows of each chip."""
    attributes = []
    if AT in table:
        others = {*table_columns(classes), *FORMAT_COLUMNS}
        attributes = [AT, *(name for name in table.columns if name not in others)]
    chips = []
    for row in table.to_dict("records"):
        values = {name: _to_json(value) for name, value in row.items()}
        chip = {name: values[name] for name in ("chip", "class", "probability")}
        for name in page_columns():
            if values.get(name) is not None:
                chip[name] = values[name]
        chip["attributes"] = {
            name: values[name] for name in attributes if values[name] is not None
        }
        chip["all"] = [values[name] for name in probability_columns(classes)]
        chip["scene"] = row.get("scene")
        chip["path"] = str(Path(row["path"]).absolute()) if has_files else None
        chip["thumb"] = _jpeg_uri(row["thumb"])
        chips.append(chip)
    return chips


def encode_jpeg(image: Bytes) -> bytes:
    """Return an image (H, W) or, as blue, green and red, (H, W, 3) as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return bytes(cv2.imencode(".jpg", image, quality)[1])


def _jpeg_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _to_json(value: Any) -> Any:
    """Return a value of a table as one of JSON; None for a missing one."""
    if not isinstance(value, bytes) and pd.isna(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
