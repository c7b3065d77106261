"""`rsft.embed`: the vectors of chips as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geopandas import GeoDataFrame

from rsft.errors import RequestError
from rsft.inference.predict.predictor import Predictor, path_names
from rsft.inference.predict.python_words import python_words
from rsft.inference.predict.rejections import locate_rejection
from rsft.inference.predict.scene_table import geo_table
from rsft.plugins.vectors.embed_job import (
    bundle_model,
    compute_vectors,
    load_encoder_model,
)
from rsft.scenes.inputs import find_chips
from rsft.scenes.options import Declaration
from rsft.types import LONLAT, Progress


def embed(
    chips: Any,
    *,
    bundle: Predictor | Path | str | None = None,
    backbone: str | None = None,
    input_size: int | None = None,
    unit: str | None = None,
    bands: Sequence[str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> GeoDataFrame:
    """Compute one vector per chip, as `rsft embed` does, and return the table.

    Give one of `bundle` and `backbone`. For arrays, `rsft.load_bundle(...).features`
    returns the same vectors.

    Args:
        chips: file, folder, glob, chip store or open dataset of rasterio, or a list.
        bundle: what `rsft.load_bundle` returns, or the path of a bundle or run.
        backbone: name of an encoder, as for `rsft.load_backbone`.
        input_size: side of the input of `backbone` in pixels; None is its native one.
        unit: unit of the pixels, if the files do not name it.
        bands: names of the bands, if the files do not name them.
        device: "auto", "cpu" or "cuda"; a loaded bundle stays where it is.
        progress: called with numbers of chips.

    Returns:
        One row per chip with the columns of the command's file: chip, path, vector and
        geometry, and split and class of chips of a chip store. `attrs` has `notes`, and
        `rejected` with place and reason of each chip without a vector.

    Raises:
        RequestError: the encoder is not clear or unknown, or no chips are found.
        WeightsError: the encoder cannot be used.
        DataError: no chip can be used.

    Example:
        >>> table = embed("new_chips", bundle="runs/ships")
        >>> len(table), len(table["vector"][0])
        (27, 192)
    """
    with python_words():
        if (bundle is None) == (backbone is None):
            raise RequestError(
                "the encoder is not clear",
                "bundle, backbone",
                "give one of bundle=RUN and backbone=NAME",
            )
        names = path_names(chips, "chips")
        files, _ = find_chips(names, Declaration(unit, tuple(bands) if bands else None))
        if backbone is not None:
            model = load_encoder_model(backbone, files, device, input_size)
        elif isinstance(bundle, Predictor):
            model = bundle_model(bundle)
        else:
            model = bundle_model(Predictor.load(Path(str(bundle)), device))
        result = compute_vectors(model, files, [Path(name) for name in names], progress)
    rejected = [locate_rejection(rejection) for rejection in result.rejections]
    return geo_table(result.table, LONLAT, model.notes, rejected)
