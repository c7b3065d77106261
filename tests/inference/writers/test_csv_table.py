"""Predictions as CSV."""

import pandas as pd
import pyogrio
import pytest
import shapely

from rsft.inference.prediction_table import read_table_file
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import (
    write_prediction_table,
)
from tests.helpers.prediction_tables import (
    CLASSES,
    COLUMNS,
    METADATA,
    SQUARE,
    table,
    write,
)


@pytest.mark.parametrize(("outline", "extra"), [(SQUARE, ["wkt"]), (None, [])])
def test_csv(tmp_path, outline, extra):
    frame = pd.read_csv(write(tmp_path / "out.CSV", outline))
    assert list(frame.columns) == [*COLUMNS, *extra]
    assert frame.loc[0, "path"] == "d,1/0.tif"
    assert not extra or shapely.from_wkt(str(frame.loc[0, "wkt"])).equals(SQUARE)


def test_formulas_in_csv_come_back(tmp_path):
    rows = table(None, None).assign(
        **{"class": ["=cmd|' /C calc'!A0", "'+x"], "note": ["@a", "-5"]}
    )
    out = tmp_path / "out.csv"
    write_prediction_table(PredictionLayer(rows, None, CLASSES, METADATA), out)
    assert pd.read_csv(out)["class"].tolist() == ["'=cmd|' /C calc'!A0", "''+x"]
    again, _ = read_table_file(out, "")
    assert again["class"].tolist() == rows["class"].tolist() and again[
        "note"
    ].tolist() == ["@a", "-5"]


def test_types_of_csv_columns(tmp_path):
    rows = table(SQUARE).assign(
        ood=[True],
        at=pd.array([7], "Int64"),
        day=pd.to_datetime(["2026-11-26T10:00:00Z"]),
    )
    write_prediction_table(
        PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.csv"
    )
    types = (tmp_path / "out.csvt").read_text()
    assert (
        types
        == '"String","String","String","Real","Real","Real","WKT","Integer(Boolean)","Integer64","DateTime"'
    )
    read = pyogrio.read_dataframe(tmp_path / "out.csv")
    assert (
        read.geometry[0].equals(SQUARE)
        and read["at"].tolist() == [7]
        and read["ood"].tolist() == [True]
    )
    assert read["probability"].dtype == "float64" and read["day"].dtype.kind == "M"
