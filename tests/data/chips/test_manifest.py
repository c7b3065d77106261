"""Damaged cells, columns and paths of a manifest."""

import math

import pandas as pd
import pyarrow.parquet as pq
import pytest

from rsft.data.chips.manifest import (
    check_chip_path,
    describe_column_fault,
    read_manifest,
)
from rsft.data.chips.store import ChipStore
from rsft.errors import DataError
from rsft.scenes.inputs import read_declarations
from tests.helpers import tiny_store
from tests.helpers.messages import mentions


@pytest.fixture
def store(tmp_path):
    return tiny_store.make(tmp_path / "store", 4)


def change_manifest(store, **columns):
    path = store.root / "manifest.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "../../../etc/hostname",
        "a/../../x.png",
        "..\\x.png",
        "C:\\x.png",
        "",
        None,
    ],
)
def test_paths_of_a_manifest_stay_in_the_store(store, path):
    change_manifest(store, path=[path, *store.table["path"][1:]])
    for read in (read_manifest, read_declarations):
        with pytest.raises(
            DataError, match=r"row 1 leaves the store|row 1 has no path"
        ):
            read(store.root)


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("class", None, "an empty cell"), ("class", 7, "7"), ("unit", None, "an empty cell"),
     ("bands", None, "an empty cell"), ("spacing_m", "wide", "'wide'"), ("spacing_m", math.inf, "inf"),
     ("split", "tain", "'tain'"),
     ("polarisation", 7, "7"), ("mmsi", 900000001, "900000001"), ("sha256", 7, "7"), ("sha256", "5d8e", "'5d8e'"),
     ("incidence_deg", "steep", "'steep'"), ("incidence_deg", 90.5, "90.5"),
     ("incidence_deg", -90.5, "-90.5")],
)  # fmt: skip
def test_a_wrong_cell_of_the_manifest_is_named(store, column, value, found):
    cells = [None if pd.isna(cell) else cell for cell in store.table[column]]
    row = 2 if value is None else 1
    # a Parquet column has one type
    cells = [cells[0], value, *cells[2:]] if value is None else [value] * 4
    change_manifest(store, **{column: pd.Series(cells, dtype=object)})
    with pytest.raises(
        DataError, match=mentions(f"row {row}", f"column {column}", f"found {found}")
    ):
        _ = ChipStore.open(store.root).table


@pytest.mark.parametrize(
    "column", ["polarisation", "mmsi", "sha256", "incidence_deg", "spacing_m", "box"]
)
def test_an_empty_text_is_an_empty_cell(store, column):
    change_manifest(store, **{column: ""})
    assert len(ChipStore.open(store.root).table) == 4


@pytest.mark.parametrize(
    "box",
    [
        [1.0] * 7,
        [1.0] * 7 + [float("inf")],
        [1.0] * 7 + [None],
        ["1"] * 8,
        [[1.0]] * 8,
        [],
    ],
)
def test_a_wrong_box_of_the_manifest_is_named(store, box):
    change_manifest(store, box=pd.Series([None, None, box, box], dtype=object))
    with pytest.raises(DataError, match=mentions("row 3", "box", "8 finite numbers")):
        _ = ChipStore.open(store.root).table


def test_a_box_may_have_integers(store):
    change_manifest(
        store, box=pd.Series([None, [*range(8)], None, [*range(8)]], dtype=object)
    )
    assert ChipStore.open(store.root).table["box"].dropna().index.tolist() == [1, 3]


def test_metadata_of_a_manifest_are_not_read(store):
    path = store.root / "manifest.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"pandas": b"\xff\xfe{"}), path)
    assert ChipStore.open(store.root).table.equals(store.table)


def test_columns_of_a_new_chip():
    box = [0.0, 0, 0, 4, 4, 4, 4, 0]
    for row in (
        {},
        {"incidence_deg": math.nan},
        {"incidence_deg": 90, "box": box},
        {"incidence_deg": -90},
    ):
        assert describe_column_fault(row) == ""
    for angle in (90.5, -90.5, math.inf):
        fault = describe_column_fault({"incidence_deg": angle})
        assert fault.startswith(f"incidence_deg is {angle:g}, expected")
    for wrong in (box[:7], [*box, 1], [math.nan] * 8, "box"):
        assert "box is" in describe_column_fault({"box": wrong})


def test_paths_of_chips_lie_below_the_store():
    for path in ("a.png", "chips/train/a.png", "a/..b/c.png"):
        check_chip_path(path)
    for path in ("", None, 7, "a\0b.png"):
        with pytest.raises(ValueError, match="has no path"):
            check_chip_path(path)
    for path in ("/a.png", "C:a.png", "a/../../b.png", "a\\..\\b.png", "\\\\host\\a"):
        with pytest.raises(ValueError, match="leaves the store"):
            check_chip_path(path)
