"""What a layer says of its table."""

import pyogrio
import pytest

from rsft.inference.writers.layer import PredictionLayer
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
