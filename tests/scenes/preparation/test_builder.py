"""Training chips from labeled scenes: the same pixels as in a prediction, and nothing
left out without a word."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsft.data.chips import builder
from rsft.data.chips.store import read_dataset
from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.dota import prepare_dota
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.scene_chips import plan_scenes
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import Query
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.messages import mentions
from tests.helpers.scene_stores import prepare
from tests.helpers.scenes import UTM, simulate_sea, toy_contract, write_geotiff
from tests.scenes.preparation.conftest import chips_of, prepared


# class, row, col, length, width
def test_chips_are_those_of_a_prediction_to_the_bit(scenes, tmp_path):
    for options in ({"size": "32"}, {"size": "box+2"}):
        store = prepared(scenes, tmp_path / f"store{options['size']}", **options)
        contract = toy_contract(
            units={"sigma0": toy_contract().units["uint8"]},
            bands=("VV",),
            planes=("VV",) * 3,
        )
        request = PredictionRequest(
            query=Query(at=scenes[1]),
            declaration=Declaration("sigma0"),
            chip_options=ChipOptions(size=ChipSize.parse(options["size"])),
        )
        plan = plan_scenes(sorted(scenes[0].glob("*.tif")), request, contract, None)
        predicted = [
            source.read(number)
            for source in plan.sources
            for number in range(len(source))
        ]
        stored = chips_of(store)
        assert len(predicted) == len(stored) == 6
        for chip in predicted:
            np.testing.assert_array_equal(chip.pixels, stored[chip.columns["chip"]])


def test_scenes_that_cannot_be_used(scenes, tmp_path):
    folder, labels = scenes
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=mentions("no scenes", ".tif")):
        prepare(tmp_path / "empty", tmp_path / "store", at=labels)
    write_geotiff(folder / "plain.tif", simulate_sea(50, 50))
    with pytest.raises(
        RequestError,
        match=mentions(
            "float32 pixels without a unit", "plain.tif", "--unit", "sigma0"
        ),
    ):
        prepare(folder, tmp_path / "store", at=labels)
    (folder / "plain.tif").unlink()
    (folder / "more").mkdir()
    os.link(folder / "s0.tif", folder / "more/s0.tif")
    with pytest.raises(RequestError, match="2 scenes have the name s0"):
        prepare(folder, tmp_path / "store", at=labels)


def test_several_scenes_give_the_chips_of_their_folder(scenes, tmp_path):
    folder, labels = scenes
    # the first one twice
    names = [
        folder / "s0.tif",
        folder / "s1.tif",
        folder / "s0.tif",
    ]
    store = prepare(names, tmp_path / "several", at=labels, jobs=1, size="32")
    whole = chips_of(prepared(scenes, tmp_path / "whole"))
    chips = chips_of(store)
    assert chips.keys() == whole.keys() and all(
        (chips[name] == whole[name]).all() for name in whole
    )
    assert store.name == "objects in scenes, s0.tif, s1.tif, s0.tif"
    assert read_dataset(store.root)["command"].startswith(
        f"rsft prepare scenes {names[0]} {names[1]} {names[2]} "
    )


@pytest.mark.slow
def test_a_killed_build_continues_to_the_same_store(scenes, tmp_path):
    expected = prepared(scenes, tmp_path / "expected", background=8)

    def killed():
        kill_at_call(builder, "write_chip", call=12)
        prepared(scenes, tmp_path / "store", background=8)

    run_until_killed(killed)
    assert not (tmp_path / "store").exists()
    store = prepared(scenes, tmp_path / "store", background=8)
    pd.testing.assert_frame_equal(store.table, expected.table)
    text = json.loads((tmp_path / "store/dataset.json").read_text())
    assert text["classes"] == ["cargo", "fishing", "tanker", "background"]


@pytest.mark.realdata
def test_objects_of_dota_are_the_same_as_in_prepare_dota(tmp_path):
    folder = Path(os.environ.get("RSFT_SHARED", "../shared")) / "data/dota_samples"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    scenes = prepare(
        folder / "images",
        tmp_path / "scenes",
        at=folder / "labelTxt",
        size="box",
        min_size=4,
    )
    dota = prepare_dota(folder, tmp_path / "dota")

    def contents(store):
        rows = store.table[["group_key", "class", "split", "path"]].itertuples(
            index=False
        )
        return sorted(
            (scene, label, split, read_chip(store.root / path).tobytes())
            for scene, label, split, path in rows
        )

    assert contents(scenes) == contents(dota) and len(dota.table) == 593


def test_a_model_takes_the_scenes_of_its_chips_with_oblong_pixels(scenes, tmp_path):
    folder, labels = scenes
    for number in range(2):
        (folder / f"s{number}.tif").unlink()
        transform = UTM * UTM.scale(1, 2) if number else UTM * UTM.scale(1, 1.1)
        pixels = simulate_sea(200, 220, seed=number) ** 2
        options = {
            "crs": "EPSG:32633",
            "transform": transform,
            "names": ("VV",),
            "units": ("sigma0",),
        }
        write_geotiff(folder / f"s{number}.tif", pixels, **options)
    store = prepare(
        folder,
        tmp_path / "store",
        at=labels,
        size="32",
        split="object",
        jobs=1,
    )
    by_scene = store.table.groupby("source")["spacing_m"].first()
    assert by_scene["s0.tif"] == pytest.approx(10.5, abs=0.02) and np.isnan(
        by_scene["s1.tif"]
    )
    assert (
        "pixels are not square, so that no spacing is stored: s1.tif"
        in read_dataset(store.root)["notes"]
    )
