"""Objects of one vessel stay in one split."""

import geopandas

from tests.scenes.preparation.conftest import prepared


# class, row, col, length, width
def test_vessels_stay_in_one_split(scenes, tmp_path):
    layer = geopandas.read_file(scenes[1])
    layer["MMSI"] = [f"21900000{number % 3}" for number in range(6)]
    layer.drop(columns="mmsi").to_file(tmp_path / "vessels.gpkg")
    store = prepared(
        (scenes[0], tmp_path / "vessels.gpkg"),
        tmp_path / "store",
        split="vessel",
        val=0.3,
    )
    assert store.table.groupby("mmsi")["split"].nunique().to_list() == [1, 1, 1]
    assert set(store.table["group_key"]) == set(store.table["mmsi"])
