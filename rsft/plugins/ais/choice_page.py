"""Write the page on which a reviewer chooses the ships of ambiguous objects."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.sidecars import render_thumbnail
from rsft.inference.review.page import encode_jpeg, write_review_page
from rsft.inference.writers.layer import PredictionLayer, creation_metadata
from rsft.plugins.ais.choices import NO_SHIP
from rsft.plugins.ais.match import AMBIGUOUS, AisMatch
from rsft.scenes.detection import ship_window
from rsft.scenes.raster import RasterScene
from rsft.scenes.reader import SceneReader
from rsft.scenes.windows import cut_chip
from rsft.types import LONLAT


def write_choice_page(match: AisMatch, path: Path, command: str) -> bool:
    """Write the review page of the ambiguous objects.

    The classes of each object are its possible ships, and no ship.

    Args:
        match: the match of a scene.
        path: the page.
        command: command that takes the saved choices.

    Returns:
        Whether there is a page; no object may be ambiguous.
    """
    objects = match.objects[match.objects["status"] == AMBIGUOUS]
    scene = match.scene
    if objects.empty or scene is None:
        return False
    shares = _find_shares(match.candidates, objects.index)
    columns = ["object", "row", "col", "lon", "lat", "reason", "candidates"]
    table = objects[columns].rename(columns={"object": "chip"})
    table["scene"] = scene.path.name
    table["path"] = str(scene.path)
    table["at"] = None
    table["probability"] = shares.max(axis=1)
    table["class"] = shares.idxmax(axis=1)
    table["length in the image, m"] = objects["length_m"].round()
    metadata = {
        "recipe": "match of AIS messages",
        "bundle_sha256": "",
        **creation_metadata(),
        "notes": match.notes,
        "request": {"chips_dir": None},
    }
    table = table.join(shares.add_prefix("p_"))
    layer = PredictionLayer(table, LONLAT, tuple(map(str, shares)), metadata)
    thumbnails = _cut_thumbnails(match, scene, objects.index)
    write_review_page(path, layer, thumbnails, [scene], None, "", path, command=command)
    return True


def _find_shares(candidates: pd.DataFrame, objects: pd.Index[int]) -> pd.DataFrame:
    """Return the share of each ship, and of no ship, in the odds of each object."""
    pairs = candidates[candidates["object"].isin(objects)]
    length = pairs["ais_length_m"].map("{:.0f} m".format, na_action="ignore")
    texts = pairs[["mmsi", "ais_class"]].assign(length=length, name=pairs["ship_name"])
    names = [" ".join(map(str, row.dropna())) for _, row in texts.iterrows()]
    pairs = pairs.assign(ship=names, odds=np.exp(pairs["score"]))
    odds = pairs.pivot(index="object", columns="ship", values="odds")
    odds[NO_SHIP] = 1.0  # the score compares with any other object
    return odds.div(odds.sum(axis=1), axis=0)


def _cut_thumbnails(
    match: AisMatch, scene: RasterScene, objects: pd.Index[int]
) -> list[bytes]:
    thumbnails = []
    window = ship_window(scene)
    with closing(SceneReader(scene)) as reader:
        for number in objects:
            chip = cut_chip(reader, window, match.positions.locations[number])
            thumbnails.append(encode_jpeg(render_thumbnail(chip.pixels)))
    return thumbnails
