"""Predictions as a sheet of Excel."""

import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.table_format import find_table_format
from rsft.inference.writers.tables import (
    check_output_path,
    write_prediction_table,
)
from tests.helpers.messages import mentions
from tests.helpers.prediction_tables import CLASSES, COLUMNS, METADATA, SQUARE, table


def write_excel(out, rows):
    write_prediction_table(PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), out)
    with zipfile.ZipFile(out) as file:
        return file.read("xl/worksheets/sheet1.xml").decode()


def test_excel_keeps_the_types_of_columns(tmp_path):
    rows = table(SQUARE, None).assign(
        ood=[True, False], at=pd.array([7, None], "Int64"), score=[np.inf, np.nan]
    )
    rows = rows.assign(
        day=pd.to_datetime(["2026-11-26T11:00:00+01:00", None]), id=[2**60 + 1, 5]
    )
    write_excel(tmp_path / "out.xlsx", rows)
    read = pd.read_excel(
        tmp_path / "out.xlsx",
        engine="calamine",
        sheet_name="predictions",
        dtype={"id": str},
    )
    names = ["ood", "at", "score", "day", "id"]
    assert (
        list(read.columns) == [*COLUMNS, "wkt", *names]
        and read["class"].tolist() == ["Öltanker"] * 2
    )
    assert read["probability"].tolist() == [0.75] * 2 and read["ood"].tolist() == [
        True,
        False,
    ]
    assert (
        read["at"][0] == 7
        and read[["at", "score", "wkt"]].iloc[1].isna().all()
        and np.isnan(read["score"][0])
    )
    assert read["day"][0] == pd.Timestamp("2026-11-26T10:00:00") and read[
        "id"
    ].tolist() == [str(2**60 + 1), "5"]
    assert shapely.from_wkt(read["wkt"][0]).equals(SQUARE)


def test_no_text_is_a_formula_in_excel(tmp_path):
    texts = ["=cmd|' /C calc'!A0", "+1+1", "@a", "a\x1b[2J\x00", "=1+1"]
    rows = table(*[None] * 5).assign(**{"class": texts, "=2+2": "{=3}"})
    sheet = write_excel(tmp_path / "out.xlsx", rows)
    assert (
        "<f>" not in sheet
        and "<f " not in sheet
        and 'state="frozen"' in sheet
        and 'topLeftCell="A2"' in sheet
    )
    read = pd.read_excel(tmp_path / "out.xlsx", engine="calamine")
    assert (
        read["class"].tolist() == [*texts[:3], r"a\x1b[2J\x00", "=1+1"]
        and read["=2+2"][0] == "{=3}"
    )


def test_what_does_not_fit_on_a_sheet_of_excel_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "out.xlsx"
    find_table_format(out).check_size(out, 1_048_575, 16_384)
    for rows, columns in ((1_048_576, 3), (1, 16_385)):
        with pytest.raises(
            RequestError,
            match=mentions(
                f"{rows:,} rows", f"{columns:,} columns", "out.xlsx", ".csv"
            ),
        ):
            find_table_format(out).check_size(out, rows, columns)
    with pytest.raises(
        RequestError, match=mentions("32,768 letters", "32,767", "out.xlsx", ".gpkg")
    ):
        write_excel(out, table(None).assign(note="x" * 32_768))
    # the limit of the format, small enough for a test
    monkeypatch.setattr("rsft.inference.writers.excel._ROWS", 2)
    with pytest.raises(RequestError, match=mentions("2 rows", "out.xlsx")):
        write_excel(out, table(None, None))
    assert list(tmp_path.iterdir()) == []


def test_excel_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # its import fails
    with pytest.raises(RequestError, match=mentions("openpyxl", "rsft[excel]")):
        check_output_path(tmp_path / "out.xlsx", COLUMNS)
