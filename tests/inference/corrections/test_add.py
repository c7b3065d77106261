"""Labels of corrected tables join a store: from saved chips and from the scene, whole
or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.data.chips import additions
from rsft.data.chips.additions import locked_store
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.stretch import Stretch
from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import DataError, RequestError
from rsft.inference.corrections.add import AdditionOptions, add_corrections
from rsft.inference.corrections.corrected_table import read_corrected_table
from rsft.scenes.options import UNDECLARED, ChipOptions, ChipSize, Declaration
from rsft.scenes.query import Query
from rsft.utils.tables import write_csv_table
from tests.helpers.file_server import serving_folder
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract, write_geotiff
from tests.helpers.sentinel1 import NAME, write_product
from tests.inference.corrections.conftest import SHIPS, decibels

pytestmark = pytest.mark.slow

LABELS = ["bright", "dark", "not a target", "unsure", "", "bright"]


def correct(path, labels=LABELS, field="corrected"):
    """Write labels into a field of a table of predictions, as a person does in QGIS."""
    if path.suffix == ".geojson":
        content = json.loads(path.read_text())
        for feature, label in zip(content["features"], labels, strict=True):
            feature["properties"][field] = label or None
        path.write_text(json.dumps(content))
    elif path.suffix == ".csv":
        pd.read_csv(path).assign(**{field: labels}).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        pq.write_table(table.append_column(field, pa.array(labels)), path)
    else:
        frame = pyogrio.read_dataframe(path, layer="predictions").assign(
            **{field: labels}
        )
        metadata = pyogrio.read_dataframe(path, layer="rsft_metadata")
        pyogrio.write_dataframe(frame, path, layer="predictions", driver="GPKG")
        pyogrio.write_dataframe(
            metadata, path, layer="rsft_metadata", driver="GPKG", append=True
        )
    return path


def read_layer(path):
    """Return the table of predictions without its geometry."""
    return (
        pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pyogrio.read_dataframe(path, layer="predictions")
    )


def page_table(desk, labels=LABELS, name="out.parquet", **options):
    """Write what the review page saves."""
    rows = read_layer(desk.predict(name, **options))
    verdicts = [
        label if label in ("not a target", "unsure") else "class" for label in labels
    ]
    classes = ["" if label in ("not a target", "unsure") else label for label in labels]
    frame = pd.DataFrame(
        {
            "path": rows["path"],
            "class": classes,
            "verdict": verdicts,
            "predicted": rows["class"],
        }
    )
    frame = frame.assign(
        scene=rows["scene"],
        at=rows["at"],
        row=rows["row"],
        col=rows["col"],
        chip=rows["chip"],
    )
    frame = frame.assign(table=str(desk.folder / name))
    frame = frame.assign(path="") if not options.get("chips", True) else frame
    frame.to_csv(desk.folder / "corrected.csv", index=False)
    return desk.folder / "corrected.csv"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["out.gpkg", "out.geojson", "out.parquet", "out.csv"])
def test_layers_with_saved_chips(desk, name):
    before = desk.table()
    table = correct(desk.predict(name))
    summary = add_corrections(desk.store, table)
    assert (summary.rows, summary.unlabeled, summary.unsure, summary.not_a_target) == (
        6,
        1,
        1,
        1,
    )
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
    assert (summary.unsure, summary.unlabeled) == (1, 1)
    dataset = json.loads((desk.store / "dataset.json").read_text())
    assert (
        dataset["additions"][0]["table"] == "corrected.csv" and "pending" not in dataset
    )
    assert "4 chips from corrected.csv" in (desk.store / "README.md").read_text()


def test_chips_of_a_review_page_are_cut_again(desk):
    """The table of predictions says how, also beside the labels in another folder."""
    add_corrections(desk.store, page_table(desk))
    saved = desk.table()
    table = page_table(desk, chips=False, name="out.gpkg")
    summary = add_corrections(desk.store, table)
    assert summary.result.unchanged == 3 and desk.table().equals(saved)
    moved = desk.folder / "moved"
    moved.mkdir()
    for path in (table, desk.folder / "out.gpkg"):
        path.rename(moved / path.name)
    assert add_corrections(desk.store, moved / "corrected.csv").result.unchanged == 3


def test_suggested_chips_without_files_are_cut_again(desk):
    correct(desk.predict("saved.parquet"), ["bright"] * 6)
    add_corrections(desk.store, desk.folder / "saved.parquet")
    saved = desk.table()
    suggest = pytest.importorskip("rsft.plugins.suggestions.suggest")
    suggestions = suggest.suggest_chips(desk.predict(chips=False), 6)
    assert not [note for note in suggestions.notes if "--chips" in note]
    write_csv_table(suggestions.table, desk.folder / "suggested.csv")
    rows = pd.read_csv(desk.folder / "suggested.csv", dtype=str, keep_default_na=False)
    rows.assign(**{"class": "bright"}).to_csv(
        desk.folder / "suggested.csv", index=False
    )
    summary = add_corrections(desk.store, desk.folder / "suggested.csv")
    # the same pixels as in the saved files
    assert summary.result.unchanged == 6 and desk.table().equals(saved)


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


def test_page_of_a_model_with_fewer_bands(desk):
    """The saved chips lack a band of the store, so they are cut from the scene."""
    summary = add_corrections(desk.store, page_table(desk, bands=("VV",)))
    assert (
        summary.result.added == {("train", "bright"): 2, ("train", "dark"): 1}
        and not summary.result.rejected
    )
    assert set(desk.table()["bands"]) == {"VH,VV"}


def test_tiles_and_fewer_bands_are_cut_from_the_scene(desk):
    table = desk.predict("tiles.parquet", bands=("VV",), query=Query(grid=8))
    labels = ["bright", "dark"] + [""] * 34
    summary = add_corrections(desk.store, correct(table, labels))
    assert (
        summary.result.added == {("train", "bright"): 1, ("train", "dark"): 1}
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
    assert summary.result.splits == {"scene": ("val", True)}
    assert {split for split, _ in summary.result.added} == {"val"}
    assert set(desk.table()["group_key"]) == {"scene.tif", "other"}


def test_unknown_classes(desk):
    table = page_table(desk, ["brihgt", "tug", "", "", "", "bright"])
    with pytest.raises(
        RequestError,
        match=mentions("brihgt (1 row), tug", "may be bright", "--new-class tug"),
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
        "without a unit" in listed["reason"][1]
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
    with pytest.raises(
        DataError, match=mentions("rsft predict", "without its metadata")
    ):
        add_corrections(desk.store, desk.folder / "copy.gpkg")


def test_a_changed_or_missing_scene(desk):
    table = correct(desk.predict(chips=False))
    write_geotiff(desk.scene, decibels(48, 48, seed=1), names=("VH", "VV"))
    with pytest.raises(DataError, match="the scene has changed"):
        add_corrections(desk.store, table)
    desk.scene.unlink()
    with pytest.raises(DataError, match=mentions("scene does not exist")):
        add_corrections(desk.store, table)
    assert len(desk.table()) == 10


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


@pytest.mark.slow
@pytest.mark.parametrize("bands", [("VH", "VV"), ("VV",)])
def test_a_new_store_of_saved_chips_loses_no_label(desk, bands):
    rows = read_layer(desk.predict(bands=bands))
    rows[["path"]].assign(**{"class": "bright", "verdict": "class"}).to_csv(
        "corrected.csv", index=False
    )
    store = prepare_folder(
        Path("corrected.csv"), Path("data/corrected"), val=0, one_class=True
    )
    assert (len(store.table), store.rejected, store.units, store.bands) == (
        6,
        0,
        ("db",),
        bands,
    )
    values = [read_chip(store.root / path) for path in store.table["path"]]
    assert sum(bool(np.isnan(pixels).any()) for pixels in values) == 4


def test_scenes_with_and_without_their_noise(desk, monkeypatch):
    table = correct(desk.predict())
    removed = "thermal noise removed"
    kept = "thermal noise not removed: no table"

    def add(note, scene="scene", **options):
        products = [
            {"scene": "scene", "noise": note},
            {"scene": scene, "noise": removed},
            {"scene": "x"},
        ]
        corrected = replace(
            read_corrected_table(table), metadata={"products": products}
        )
        monkeypatch.setattr(
            f"{add_corrections.__module__}.read_corrected_table", lambda *_: corrected
        )
        return add_corrections(desk.store, table, AdditionOptions(**options))

    with pytest.raises(
        RequestError,
        match=mentions(
            "some of the scenes", kept, "--read keep-noise", "--mixed-noise"
        ),
    ):
        add(kept)
    assert add(kept, scene="other").result.added.total() == 3
    with pytest.raises(
        RequestError, match=mentions(f"{removed}: scene", f"earlier additions: {kept}")
    ):
        add(removed)
    assert add(removed, mixed_noise=True).result.unchanged == 3


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


def test_resampled_chips_and_boxes(desk):
    boxes = [f"{col - 3},{row - 3},{col + 3},{row + 3}" for row, col in SHIPS]
    (desk.folder / "boxes.csv").write_text("\n".join(["xmin,ymin,xmax,ymax", *boxes]))
    query = Query(at=desk.folder / "boxes.csv", crs="pixel")
    for options in (
        ChipOptions(size=ChipSize(margin=2)),
        ChipOptions(size=ChipSize(8), resample_to=20),
    ):
        fields = {"query": query, "chip_options": options}
        for name in ("saved.parquet", "cut.parquet"):
            # a layer with labels is not overwritten
            (desk.folder / name).unlink(missing_ok=True)
        saved = add_corrections(
            desk.store, correct(desk.predict("saved.parquet", **fields))
        )
        assert saved.result.added.total() == 3
        again = add_corrections(
            desk.store, correct(desk.predict("cut.parquet", chips=False, **fields))
        )
        assert again.result.unchanged == 3 and not again.result.relabeled


def test_digital_numbers_of_a_product_are_amplitude(desk):
    """Chips of a raw product are uint16, and their unit is a declaration, as in the
    store of OpenSARShip."""
    pixels = np.random.default_rng(0).gamma(4, 20, (4, 48, 48)).astype(np.uint16)
    source = desk.folder / "digital"
    (source / "ship").mkdir(parents=True)
    write_geotiff(source / "ship/a.tif", pixels[:2, :8, :8], names=("VV", "VH"))
    store = prepare_folder(
        source, desk.folder / "amplitude", unit="amplitude", val=0, one_class=True
    ).root
    safe = write_product(desk.folder, {"vv": pixels[2], "vh": pixels[3]})
    units = {"amplitude": (Stretch(high=500.0),) * 2}
    bands = ("VV", "VH")
    contract = toy_contract(
        units=units, bands=bands, planes=bands, mean=(0.5,) * 2, std=(0.25,) * 2
    )
    product = desk._replace(scene=safe)
    saved = product.predict("saved.parquet", contract=contract, declaration=UNDECLARED)
    result = add_corrections(store, correct(saved, ["ship"] * 6)).result
    assert result.added == {("train", "ship"): 6} and not result.rejected
    assert ChipStore.open(store).units == ("amplitude",) and set(result.splits) == {
        NAME
    }
    cut = product.predict(
        "cut.parquet", contract=contract, declaration=UNDECLARED, chips=False
    )
    assert add_corrections(store, correct(cut, ["ship"] * 6)).result.unchanged == 6


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
     ("sync_all", 1, False), ("write_bytes", 1, False), ("write_text", 2, False), ("write_text", 3, False),
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


def test_an_unchanged_scene_needs_no_option(desk):
    (desk.folder / "tables").mkdir()
    table = correct(desk.predict("tables/out.gpkg", chips=False))
    assert add_corrections(desk.store, table, AdditionOptions(sources=())).result.added
