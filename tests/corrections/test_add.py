"""Labels of corrected tables join a store: from saved chips and from the scene, whole
or not at all."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.corrections.add import AdditionOptions, add_corrections
from rsft.data.chips import additions
from rsft.data.chips.additions import locked_store
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import RequestError
from tests.corrections.conftest import SHIPS, correct, page_table, read_layer
from tests.helpers.file_server import serving_folder
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow


def test_page_of_a_model_with_fewer_bands(desk):
    """The saved chips lack a band of the store, so they are cut from the scene."""
    summary = add_corrections(desk.store, page_table(desk, bands=("VV",)))
    assert (
        summary.result.added == {("train", "bright"): 2, ("train", "dark"): 1}
        and not summary.result.rejected
    )
    assert set(desk.table()["bands"]) == {"VH,VV"}


def test_the_same_command_again_changes_nothing_and_another_label_one_row(desk):
    table = page_table(desk)
    add_corrections(desk.store, table)
    content = {
        path: path.read_bytes()
        for path in sorted(desk.store.rglob("*"))
        if path.is_file()
    }
    summary = add_corrections(desk.store, table)
    assert summary.result.unchanged == 3 and not summary.result.relabeled
    assert {
        path: path.read_bytes()
        for path in sorted(desk.store.rglob("*"))
        if path.is_file()
    } == content
    summary = add_corrections(
        desk.store, page_table(desk, ["dark", "dark", "", "", "", "bright"])
    )
    assert (
        summary.result.relabeled == {("bright", "dark"): 1}
        and summary.result.unchanged == 2
    )
    row = desk.table().dropna(subset=["added_previous"]).iloc[0]
    assert (row["class"], row["added_previous"], len(desk.table())) == (
        "dark",
        "bright",
        13,
    )


def test_splits_follow_the_scene(desk):
    manifest = pd.read_parquet(desk.store / "manifest.parquet")
    manifest["group_key"] = [
        "scene.tif" if split == "val" else "other" for split in manifest["split"]
    ]
    manifest.to_parquet(desk.store / "manifest.parquet")
    summary = add_corrections(desk.store, page_table(desk))
    assert {split for split, _ in summary.result.added} == {"val"}
    assert set(desk.table()["group_key"]) == {"scene.tif", "other"}


@pytest.mark.slow
@pytest.mark.parametrize("bands", [("VH", "VV"), ("VV",)])
def test_a_new_store_of_saved_chips_loses_no_label(desk, bands):
    rows = read_layer(desk.predict(bands=bands))
    rows[["path"]].assign(**{"class": "bright", "verdict": "class"}).to_csv(
        "corrected.csv", index=False
    )
    store = prepare_folder(Path("corrected.csv"), Path("data/corrected"), val=0)
    assert (len(store.table), store.rejected, store.units, store.bands) == (
        6,
        0,
        ("db",),
        bands,
    )
    values = [read_chip(store.root / path) for path in store.table["path"]]
    assert sum(bool(np.isnan(pixels).any()) for pixels in values) == 4


def test_another_process_changes_the_store(desk):
    with (
        locked_store(desk.store),
        pytest.raises(RequestError, match=mentions("another process")),
    ):
        add_corrections(desk.store, page_table(desk))


def test_chips_of_the_store_itself(desk):
    """A table of predictions on the chips of the store, whose files declare no unit."""
    paths = [str(desk.store / path) for path in desk.table()["path"][:2]]
    pd.DataFrame({"path": paths, "class": "dark"}).to_csv("labels.csv", index=False)
    summary = add_corrections(desk.store, Path("labels.csv"))
    assert (
        summary.result.relabeled == {("bright", "dark"): 2} and not summary.result.added
    )
    again = add_corrections(desk.store, Path("labels.csv"))
    assert again.result.unchanged == 2 and len(desk.table()) == 10
    names = desk.table()[["split", "class", "name"]].apply(tuple, axis=1)
    assert names.is_unique


def test_one_chip_twice(desk):
    table = page_table(desk, ["dark"] * 6)
    frame = pd.read_csv(table)
    double = pd.concat(
        [frame, frame.iloc[[0]], frame.iloc[[1]].assign(**{"class": "bright"})]
    )
    double.to_csv(table, index=False)
    summary = add_corrections(desk.store, table)
    assert summary.result.added.total() == 6 and summary.result.repeated == 1
    assert [reason for _, _, reason in summary.result.rejected] == [
        "the same chip is dark in line 3, and bright here"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call", "after"),
    [("write_text", 1, False), ("write_text", 1, True), ("write_chip", 2, False), ("write_chip", 2, True),
     ("sync_all", 1, False), ("write_bytes", 1, False), ("write_text", 2, False), ("write_rejected", 1, False),
     ("write_bytes", 2, False), ("write_bytes", 2, True)],
)  # fmt: skip
def test_a_killed_process_leaves_the_old_or_the_new_store(desk, name, call, after):
    """The calls are in the order of the code: to be killed after one is to be killed
    before the next one."""
    table = page_table(desk)
    before = desk.table()
    options = AdditionOptions(not_a_target="clutter", new_classes=("clutter",))

    def add_and_die():
        kill_at_call(additions, name, call, after)
        add_corrections(desk.store, table, options)

    run_until_killed(add_and_die)
    store = ChipStore.open(desk.store)
    is_new = len(store.table) > len(before)
    assert store.classes == (
        ("bright", "dark", "clutter") if is_new else ("bright", "dark")
    )
    assert len(store.table) == (14 if is_new else 10)
    summary = add_corrections(desk.store, table, options)
    assert summary.result.unchanged == (4 if is_new else 0) and len(desk.table()) == 14
    assert "pending" not in (desk.store / "dataset.json").read_text()
    files = {
        path.relative_to(desk.store).as_posix()
        for path in (desk.store / "chips").rglob("*.tif")
    }
    assert files == set(desk.table()["path"])
    assert "4 chips from" in (desk.store / "README.md").read_text() and len(SHIPS) == 6


@pytest.mark.parametrize(
    "prefix", ["", "/vsicurl/", "/vsicurl?url=", "/vsizip//vsicurl/"]
)
def test_a_table_starts_no_request(desk, prefix):
    """The scene of its chips is said to be on a server; nobody named it."""
    table = correct(desk.predict("out.geojson", chips=False))
    content = json.loads(table.read_text())
    with serving_folder(desk.folder) as server:
        address = prefix + server.url("scene.tif")
        for record in content["metadata"]["cuts"]:
            record |= {"path": address, "fingerprint": None}
        table.write_text(json.dumps(content))
        for sources in ((), (server.url("other"), str(desk.folder))):
            with pytest.raises(RequestError, match=mentions("--source", address)):
                add_corrections(desk.store, table, AdditionOptions(sources=sources))
        assert server.requests == []
        if not prefix:
            sources = (server.url("").rstrip("/"),)
            assert add_corrections(
                desk.store, table, AdditionOptions(sources=sources)
            ).result.added
            assert server.requests != []
