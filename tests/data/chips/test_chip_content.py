"""Pixels, units, bands and names of chips, as a store has them."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import rasterio

from rsft.data.chips.builder import build_store
from rsft.data.chips.chip_content import select_bands
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError

DESCRIPTION = StoreDescription("tiny", ("a",), "rsft prepare tiny")


def cut(seed, dtype="uint8", bands=1):
    return np.random.default_rng(seed).integers(0, 256, (8, 6, bands)).astype(dtype)


@pytest.mark.parametrize(
    ("unit", "dtype", "bands", "suffix"),
    [("sigma0", "float32", 2, "tif"), ("db", "float32", 1, "tif"), (None, "uint16", 4, "tif"),
     (None, "uint8", 3, "png")],
)  # fmt: skip
# pipes of ended processes are collected whenever Python collects garbage
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
def test_pixels_of_every_unit_come_back(tmp_path, unit, dtype, bands, suffix):
    pixels = cut(5, dtype, bands) * np.dtype(dtype).type(
        0.03 if dtype == "float32" else 1
    ) - 4 * (unit == "db")
    names = tuple(f"B{index}" for index in range(bands))
    columns = {"unit": unit} if unit else {}
    record = ChipRecord(
        "x",
        "train",
        "a",
        tmp_path / "1.txt",
        lambda: pixels,
        bands=names,
        extra_columns=columns,
    )
    store = build_store(tmp_path / "out", [record], DESCRIPTION)
    assert store.units == (unit or dtype,) and store.bands == names
    back = read_chip(store.root / f"chips/train/a/x.{suffix}")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)
    if suffix == "tif":
        path = store.root / "chips/train/a/x.tif"
        warning = rasterio.errors.NotGeoreferencedWarning
        with pytest.warns(warning), rasterio.open(path) as file:
            assert file.compression.name == "deflate" and file.count == bands
    assert [chip.dtype for chip in store.iter_pixels("train", unit or dtype)] == [dtype]


@pytest.mark.parametrize(
    ("unit", "pixels", "reason"),
    [
        (
            None,
            cut(0, "float32"),
            "float32 pixels; a chip is uint8, uint16, or float32 with a unit",
        ),
        ("db", cut(0), "uint8 pixels, but db is float32"),
        ("dezibel", cut(0, "float32"), "unknown unit dezibel; choose one of"),
        ("sigma0", cut(0, "complex64"), "complex64 pixels, but sigma0 is float32"),
        ("db", np.full((8, 6, 1), -np.inf, np.float32), "no pixel has a value"),
        ("sigma0", cut(0, "float32") - 300, "values from -300 to -"),
    ],
)
def test_unit_that_does_not_fit_is_rejected(tmp_path, unit, pixels, reason):
    columns = {"unit": unit} if unit else {}
    records = [
        ChipRecord("good", "train", "a", tmp_path / "1.txt", partial(cut, 1)),
        ChipRecord(
            "odd",
            "train",
            "a",
            tmp_path / "1.txt",
            lambda: pixels,
            4,
            extra_columns=columns,
        ),
    ]
    store = build_store(tmp_path / "out", records, DESCRIPTION)
    assert (
        pd.read_csv(store.root / "rejected.csv")
        .set_index("line")
        .loc[4, "reason"]
        .startswith(reason)
    )


@pytest.mark.parametrize(
    ("pixels", "names", "selected", "expected"),
    [
        (np.dstack([cut(0)] * 3), None, ("VV",), cut(0)),
        (np.dstack([cut(0)] * 3), None, None, np.dstack([cut(0)] * 3)),
        (cut(0), None, ("VV",), cut(0)),
        (cut(0, bands=3), None, ("VV",), "3 bands, but names for 1 (VV)"),
        (np.dstack([cut(0)] * 2), None, ("VV",), "2 bands, but names for 1 (VV)"),
        (np.dstack([cut(0)] * 3), ("VV", "VH", "HH"), ("HV",), "without HV"),
        (
            np.dstack([cut(0)] * 3),
            None,
            ("VV", "VH"),
            "3 bands, but names for 2 (VV, VH)",
        ),
    ],
)
def test_one_band_of_a_gray_chip_that_was_stored_as_rgb(
    pixels, names, selected, expected
):
    if isinstance(expected, str):
        with pytest.raises(DataError, match=re.escape(expected)):
            select_bands(pixels, names, selected)
    else:
        kept, bands = select_bands(pixels, names, selected)
        np.testing.assert_array_equal(kept, expected)
        assert bands == (selected or ("R", "G", "B"))


def test_nodata_stays_nodata(tmp_path):
    pixels = np.float32([[[0.1], [np.nan]], [[0.3], [0]]])
    record = ChipRecord(
        "x",
        "train",
        "a",
        tmp_path / "1.txt",
        lambda: pixels,
        extra_columns={"unit": "sigma0"},
    )
    store = build_store(tmp_path / "out", [record], DESCRIPTION)
    np.testing.assert_array_equal(read_chip(store.root / "chips/train/a/x.tif"), pixels)


def test_columns_that_the_manifest_cannot_hold_reject_the_chip(tmp_path):
    wrong = [
        {"incidence_deg": 400.0},
        {"incidence_deg": float("inf")},
        {"box": [0.0] * 7},
        {"box": "x"},
    ]
    good = [
        {"incidence_deg": float("nan")},
        {"incidence_deg": -40, "box": np.arange(8.0)},
    ]
    chips = [
        ChipRecord(
            str(number),
            "train",
            "a",
            tmp_path / "1.txt",
            partial(cut, 2),
            number,
            extra_columns=columns,
        )
        for number, columns in enumerate([*wrong, *good])
    ]
    store = build_store(tmp_path / "store", chips, DESCRIPTION)
    assert store.rejected == 4 and store.table["name"].tolist() == ["4", "5"]
    assert (
        "incidence_deg is 400, expected an angle from -90 to 90"
        in (store.root / "rejected.csv").read_text()
    )


def test_a_name_that_is_too_long_for_a_file_rejects_the_chip(tmp_path):
    chips = [
        ChipRecord(name, "train", "a", tmp_path / "1.txt", partial(cut, 2))
        for name in ("x", "n" * 251)
    ]
    store = build_store(tmp_path / "store", chips, DESCRIPTION)
    assert store.rejected == 1 and store.table["name"].tolist() == ["x"]
    assert (
        "the name of the chip has 251 letters; the limit is 250 bytes"
        in (store.root / "rejected.csv").read_text()
    )
