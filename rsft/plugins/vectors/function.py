"""`rsft.embed`: the vectors of chips as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geopandas import GeoDataFrame

from rsft.inference.predict.predictor import Predictor, path_names
from rsft.inference.predict.python_words import python_words
from rsft.inference.predict.rejections import locate_rejection
from rsft.inference.predict.scene_table import geo_table
from rsft.plugins.vectors.embed_job import embed_chips
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

    For arrays, `rsft.load_bundle(...).features` returns the same vectors.

    Args:
        chips: file, folder, glob, chip store or open dataset of rasterio, or a list.
        bundle: what `rsft.load_bundle` returns, or the path of a bundle or run.
        backbone: name of an encoder, as for `rsft.load_backbone`; None takes `bundle`,
            or else the embedded one.
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
    declaration = Declaration(unit, tuple(bands) if bands else None)
    if isinstance(bundle, str):
        bundle = Path(bundle)
    with python_words():
        names = path_names(chips, "chips")
        result = embed_chips(
            names, declaration, bundle, backbone, device, input_size, progress
        )
    rejected = [locate_rejection(rejection) for rejection in result.rejections]
    return geo_table(result.table, LONLAT, result.notes, rejected)
