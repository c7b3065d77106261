"""What a layer says of its table."""

import pandas as pd
import pyogrio
import pytest

from rsft.inference.writers.layer import PredictionLayer, with_wkt
from rsft.inference.writers.tables import (
    write_prediction_table,
)
from tests.helpers.prediction_tables import CLASSES, METADATA, POINT, SQUARE, table


@pytest.mark.parametrize(
    ("shapes", "step", "kind"),
    [
        ((POINT, POINT), None, "point"),
        ((SQUARE, None), None, "box"),
        ((SQUARE,), 0.5, "tile"),
    ],
)
def test_kind_of_a_layer(shapes, step, kind):
    assert (
        PredictionLayer(table(*shapes), None, CLASSES, METADATA, tile_step=step).shape
        == kind
    )


def test_corrections_of_positions_are_kept(tmp_path):
    rows = table(POINT, POINT).assign(Corrected=["ship", None])
    write_prediction_table(
        PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.gpkg"
    )
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions")
    assert (
        frame["Corrected"].fillna("").tolist() == ["ship", ""]
        and "corrected" not in frame
    )


def test_geometries_as_texts():
    layer = PredictionLayer(table(POINT, None), None, CLASSES, METADATA)
    texts = with_wkt(layer)["wkt"].tolist()
    assert texts[0].startswith("POINT (") and pd.isna(texts[1])
    empty = PredictionLayer(table(None, None), None, CLASSES, METADATA)
    assert "wkt" not in with_wkt(empty) and "geometry" not in with_wkt(empty)
    assert "wkt" in with_wkt(empty._replace(table=empty.table[:0]))
