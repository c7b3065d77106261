"""The manifest says what a chip shows, where and when."""

import numpy as np
import pytest

from rsft.data.chips.store import ChipStore, read_dataset
from rsft.errors import DataError
from tests.helpers.scenes import write_geotiff
from tests.scenes.preparation.conftest import prepared


# class, row, col, length, width
def test_the_manifest_says_what_a_chip_shows_where_and_when(scenes, tmp_path):
    store = prepared(scenes, tmp_path / "store", val=0.5)
    table = store.table
    assert store.classes == ("cargo", "fishing", "tanker") and store.bands == ("VV",)
    assert dict(table.groupby("split")["group_key"].unique().map(len)) == {
        "train": 1,
        "val": 1,
    }
    assert set(table["unit"]) == {"sigma0"} and set(table["flags"]) == {""}
    assert table["spacing_m"].to_numpy() == pytest.approx(10, abs=0.02)
    row = table[(table["group_key"] == "s0") & (table["class"] == "tanker")].iloc[0]
    assert (row["source"], row["source_row"], row["mmsi"]) == ("s0.tif", 2, "000000120")
    assert (row["row"], row["col"]) == pytest.approx((120, 150), abs=0.01)
    assert (row["length_m"], row["width_m"]) == pytest.approx((400, 120), rel=0.002)
    assert np.reshape(row["box"], (4, 2)).min(axis=0) == pytest.approx(
        [-4, 10], abs=0.01
    )
    assert (row["lon"], row["lat"]) == pytest.approx(
        (15.0, 45.1), abs=0.1
    ) and np.isnan(row["heading_deg"])
    assert store.table["class"].map(store.classes.index).ge(0).all()
    assert read_dataset(store.root)["notes"] == ["class: the field type of ships.gpkg"]
    assert next(ChipStore.open(store.root).iter_pixels("train", "sigma0")).shape == (
        32,
        32,
        1,
    )


def test_names_of_bands_that_the_scenes_do_not_have_are_an_error(tmp_path):
    """Names for another number of bands are not ignored; one name takes gray RGB."""
    pixels = np.tile(np.arange(60, dtype="uint8"), (3, 60, 1))
    pixels[:, 30:33, 30:36] = 200
    scene = write_geotiff(tmp_path / "s.tif", pixels, compress="deflate")
    labels = tmp_path / "labels.csv"
    labels.write_text("row,col,class\n31,33,cargo\n31,20,tanker\n")
    options = {"size": "16", "split": "image", "val": 0}
    with pytest.raises(DataError) as caught:
        prepared((scene, labels), tmp_path / "two", bands=("VV", "VH"), **options)
    assert "3 bands, but names for 2 (VV, VH)" in str(caught.value.hint)
    store = prepared((scene, labels), tmp_path / "one", bands=("VV",), **options)
    assert store.bands == ("VV",) and store.is_radar
