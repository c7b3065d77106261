"""Tables with corrected labels: layers, pages, and rows that are rejected."""

import json

import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.corrections.add import AdditionOptions, add_corrections
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.scenes.options import Declaration
from tests.corrections.conftest import SHIPS, correct, decibels, page_table
from tests.helpers.messages import mentions
from tests.helpers.scenes import write_geotiff

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["out.gpkg", "out.geojson", "out.parquet", "out.csv"])
def test_layers_with_saved_chips(desk, name):
    before = desk.table()
    table = correct(desk.predict(name))
    summary = add_corrections(desk.store, table)
    verdicts = summary.verdicts
    assert (verdicts.total(), verdicts[""]) == (6, 1)
    assert (verdicts["unsure"], verdicts["not a target"]) == (1, 1)
    assert (
        summary.result.added == {("train", "bright"): 2, ("train", "dark"): 1}
        and not summary.result.rejected
    )
    after = desk.table()
    added = after[~after["path"].isin(before["path"])]
    assert (
        added["unit"].tolist() == ["db"] * 3
        and added["bands"].tolist() == ["VH,VV"] * 3
    )
    assert set(added["group_key"]) == {"scene"} and set(added["added_from"]) == {name}
    assert after["path"].tolist() == sorted(after["path"])
    for _, row in added.iterrows():
        # three chips at the edge
        assert np.isnan(read_chip(desk.store / row["path"])).any()
    assert set(added["added_bundle"].dropna()) == (
        set() if name == "out.csv" else {"0" * 64}
    )
    # chips that were not saved are cut again, with the same pixels
    if name != "out.csv":
        (desk.folder / name).unlink()
        summary = add_corrections(desk.store, correct(desk.predict(name, chips=False)))
        assert summary.result.unchanged == 3 and desk.table().equals(after)


def test_page_with_verdicts(desk):
    summary = add_corrections(
        desk.store, page_table(desk), AdditionOptions(not_a_target="dark")
    )
    assert summary.result.added == {("train", "bright"): 2, ("train", "dark"): 2}
    assert (summary.verdicts["unsure"], summary.verdicts[""]) == (1, 1)
    dataset = json.loads((desk.store / "dataset.json").read_text())
    assert (
        dataset["additions"][0]["table"] == "corrected.csv" and "pending" not in dataset
    )
    assert "4 chips from corrected.csv" in (desk.store / "README.md").read_text()


def test_page_with_a_replaced_table_of_predictions(desk):
    """Chips with the same names at other places are not taken for the labeled ones."""
    table = page_table(desk, chips=False)
    desk.positions.write_text(
        "row,col\n" + "\n".join(f"{row},{col - 1}" for row, col in SHIPS)
    )
    desk.predict(chips=False)
    with pytest.raises(
        DataError, match=mentions("none of the 3", "line 2", "not saved")
    ):
        add_corrections(desk.store, table)
    rows = pd.read_csv(table)
    rows.assign(table=["a.gpkg"] + ["b.gpkg"] * 5).to_csv(table, index=False)
    with pytest.raises(RequestError, match=mentions("2 tables", "a.gpkg, b.gpkg")):
        add_corrections(desk.store, table)


def test_unknown_classes(desk):
    table = page_table(desk, ["brihgt", "tug", "", "", "", "bright"])
    with pytest.raises(
        RequestError,
        match=mentions("brihgt (rows: 1), tug", "may be bright", "--new-class tug"),
    ):
        add_corrections(desk.store, table)
    summary = add_corrections(
        desk.store, table, AdditionOptions(new_classes=("tug", "brihgt", "barge"))
    )
    assert summary.result.added.total() == 3
    store = ChipStore.open(desk.store)
    assert store.classes == ("bright", "dark", "tug", "brihgt") and store.groups[
        "tail"
    ][-2:] == ["tug", "brihgt"]
    assert store.table.set_index("class")["group"]["tug"] == "tail"


def test_rejected_rows(desk):
    write_geotiff(desk.folder / "one.tif", decibels(8, 8, bands=1), names=("VV",))
    write_geotiff(desk.folder / "no_unit.tif", decibels(8, 8), names=("VH", "VV"))
    write_geotiff(
        desk.folder / "linear.tif",
        decibels(8, 8) + 40,
        names=("VH", "VV"),
        units=("sigma0", "sigma0"),
    )
    rows = [
        "path,class",
        "one.tif,dark",
        "no_unit.tif,dark",
        "linear.tif,dark",
        "gone.tif,dark",
    ]
    (desk.folder / "bad.csv").write_text("\n".join(rows))
    with pytest.raises(
        DataError,
        match=mentions("none of the 4", "line 2", "bands VV", "store takes VH, VV"),
    ):
        add_corrections(desk.store, desk.folder / "bad.csv")
    listed = pd.read_csv(desk.store / "rejected.csv")
    assert listed["line"].tolist() == [2, 3, 4, 5]
    assert (
        "with a unit (" in listed["reason"][1]
        and "does not exist" in listed["reason"][3]
    )
    options = AdditionOptions(declaration=Declaration("db"))
    summary = add_corrections(desk.store, desk.folder / "bad.csv", options)
    assert summary.result.added.total() == 1 and len(summary.result.rejected) == 3
    assert pd.read_csv(desk.store / "rejected.csv")["line"].tolist() == [2, 4, 5]


def test_a_layer_without_metadata(desk):
    frame = pyogrio.read_dataframe(
        correct(desk.predict("out.gpkg", chips=False)), layer="predictions"
    )
    pyogrio.write_dataframe(frame, desk.folder / "copy.gpkg", layer="predictions")
    with pytest.raises(DataError, match=mentions("not a copy")):
        add_corrections(desk.store, desk.folder / "copy.gpkg")


def test_tables_without_labels(desk):
    with pytest.raises(RequestError, match=r"no field label.*--field"):
        add_corrections(
            desk.store, desk.predict("out.gpkg"), AdditionOptions(label_field="label")
        )
    with pytest.raises(RequestError, match=mentions("no row", "6 not looked at")):
        add_corrections(desk.store, desk.predict("out.gpkg"))
    with pytest.raises(
        RequestError, match=mentions("no row", "5 not looked at", "1 not a target")
    ):
        add_corrections(desk.store, page_table(desk, ["not a target"] + [""] * 5))
