"""Chips of corrected rows are cut again from their scene."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rsft.corrections.add import AdditionOptions, add_corrections
from rsft.corrections.corrected_table import read_corrected_table
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.stretch import Stretch
from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import DataError, RequestError
from rsft.scenes.options import UNDECLARED, ChipOptions, ChipSize
from rsft.scenes.query import Query
from rsft.utils.tables import write_csv_table
from tests.corrections.conftest import SHIPS, correct, decibels, page_table
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract, write_geotiff
from tests.helpers.sentinel1 import write_product

pytestmark = pytest.mark.slow


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


def test_tiles_and_fewer_bands_are_cut_from_the_scene(desk):
    table = desk.predict("tiles.parquet", bands=("VV",), query=Query(grid=8))
    labels = ["bright", "dark"] + [""] * 34
    summary = add_corrections(desk.store, correct(table, labels))
    assert (
        summary.result.added == {("train", "bright"): 1, ("train", "dark"): 1}
        and not summary.result.rejected
    )
    assert set(desk.table()["bands"]) == {"VH,VV"}


def test_a_changed_or_missing_scene(desk):
    table = correct(desk.predict(chips=False))
    write_geotiff(desk.scene, decibels(48, 48, seed=1), names=("VH", "VV"))
    with pytest.raises(DataError, match="the scene has changed"):
        add_corrections(desk.store, table)
    desk.scene.unlink()
    with pytest.raises(DataError, match=mentions("scene does not exist")):
        add_corrections(desk.store, table)
    assert len(desk.table()) == 10


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
        RequestError, match=mentions(f"{removed}: scene", f"{kept}: earlier additions")
    ):
        add(removed)
    assert add(removed, mixed_noise=True).result.unchanged == 3


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
        source, desk.folder / "amplitude", unit="amplitude", val=0
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
    assert ChipStore.open(store).units == ("amplitude",)
    cut = product.predict(
        "cut.parquet", contract=contract, declaration=UNDECLARED, chips=False
    )
    assert add_corrections(store, correct(cut, ["ship"] * 6)).result.unchanged == 6


def test_an_unchanged_scene_needs_no_option(desk):
    (desk.folder / "tables").mkdir()
    table = correct(desk.predict("tables/out.gpkg", chips=False))
    assert add_corrections(desk.store, table, AdditionOptions(sources=())).result.added
