"""What the page shows: the least certain chips, the scenes they lie in, and how they were made."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rsft.inference.review.thumbnail import thumbnail
from rsft.inference.scenes.raster import Scene
from rsft.inference.writers.palette import colours
from rsft.inference.writers.tables import Layer
from rsft.utils.atomic_files import write_text

MOST = 2000
"""Chips on a page; it has about 4 kB for each. Where there are more, the least certain are shown."""

_SHOWN = ("class_2", "probability_2", "set", "ood", "length_m", "length_from", "row", "col", "lon", "lat")
_SCENE_SIDE = 1400
_BY_THEMSELVES = (["gray"], ["R", "G", "B"])  # `rsft prepare folder` knows them


def write_review(path: Path, layer: Layer, thumbs: Sequence[bytes], scenes: Sequence[Scene]) -> None:
    """Write the page.

    Args:
        thumbs: a JPEG a row of the layer's table.
        scenes: those that the chips were cut from; none for loose chips.
    """
    table = layer.table.assign(thumb=list(thumbs)).sort_values("probability", kind="stable").head(MOST)
    request = layer.metadata["request"]
    kept = not scenes or request["chips"] is not None
    data = {
        "chips": [_chip(row, layer.classes, kept) for row in table.to_dict("records")],
        "classes": [{"name": name, "colour": colour} for name, colour in colours(layer.classes).items()],
        "scenes": [_scene(scene) for scene in scenes],
        "kept": kept,
        "key": f"rsft review {path.stem} {layer.metadata['bundle_sha256'][:12]} {layer.metadata['created']}",
    }
    environment = Environment(
        loader=PackageLoader("rsft.inference.review", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html").render(
        title=path.stem,
        shown=len(table),
        total=len(layer.table),
        metadata=layer.metadata,
        kept=kept,
        command=_command(layer.metadata, cut=bool(scenes)),
        style=Markup(_asset(environment, "page.css")),
        script=Markup(_asset(environment, "page.js")),
        data=Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")),
    )
    write_text(path, page)


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _chip(row: Mapping[Any, Any], classes: Sequence[str], kept: bool) -> dict[str, Any]:
    chip = {"chip": row["chip"], "class": row["class"], "probability": row["probability"]}
    chip |= {name: _plain(row[name]) for name in _SHOWN if name in row and not pd.isna(row[name])}
    chip["all"] = [_plain(row[f"p_{name}"]) for name in classes]
    chip["scene"] = row.get("scene")
    chip["path"] = str(Path(row["path"]).absolute()) if kept else None
    chip["thumb"] = "data:image/jpeg;base64," + base64.b64encode(row["thumb"]).decode()
    return chip


def _scene(scene: Scene) -> dict[str, Any]:
    picture = "data:image/jpeg;base64," + base64.b64encode(thumbnail(scene, _SCENE_SIDE)).decode()
    return {"name": scene.path.name, "width": scene.width, "height": scene.height, "picture": picture}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _command(metadata: Mapping[str, Any], cut: bool) -> str:
    """What makes training data of the corrected labels; chips that were cut have the bundle's bands."""
    unit, bands, _ = metadata["request"]["declared"]
    bands = metadata["bands"] if cut or not bands else bands
    words = ["rsft", "prepare", "folder", "corrected.csv", "--root", "data/corrected"]
    words += ["--unit", unit] if unit else []
    words += ["--bands", ",".join(bands)] if bands not in _BY_THEMSELVES else []
    return shlex.join(words)
