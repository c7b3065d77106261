"""Classify arrays and files from Python."""

import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

import rsft
from rsft.errors import RequestError
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.inference.predict.predictor import Predictor
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract

RNG = np.random.default_rng(0)
DARK = RNG.integers(0, 60, (2, 16, 16), np.uint8)
BRIGHT = RNG.integers(200, 255, (1, 16, 16), np.uint8)


@pytest.fixture
def predictor():
    return Predictor(
        toy_bundle(), LoadedEngine(brightness_logits, toy_contract(), REFERENCE)
    )


def test_importing_rsft_imports_nothing_heavy():
    code = (
        "import sys, rsft; print([name for name in ('torch', 'pandas', 'numpy') if name"
        " in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize(
    "chips",
    [
        np.concatenate([DARK, BRIGHT])[..., None],
        [*DARK, BRIGHT[0]],
        [DARK[0], DARK[1][:, :, None], BRIGHT[0][:12, :9]],
    ],
)
def test_arrays(predictor, chips):
    table = predictor.predict(chips, batch_size=2)
    assert table["chip"].tolist() == [0, 1, 2] and table["class"].tolist() == [
        "dark",
        "dark",
        "bright",
    ]
    assert table["rejected"].isna().all() and "geometry" not in table
    assert table[["p_dark", "p_bright"]].sum(axis=1).tolist() == pytest.approx(
        [1, 1, 1]
    )


def test_an_engine_on_a_gpu_gets_bytes_except_for_explanations(predictor):
    received = []

    def infer(inputs):
        received.append((inputs.shape, inputs.dtype))
        if inputs.dtype == np.uint8:
            inputs = toy_contract().normalize(inputs)
        return brightness_logits(inputs)

    engine = predictor.engine._replace(infer=infer, takes_bytes=True)
    model = Predictor(predictor.bundle, engine)
    chips = [*DARK, BRIGHT[0]]
    pd.testing.assert_frame_equal(model.predict(chips), predictor.predict(chips))
    np.testing.assert_array_equal(model.logits(chips), predictor.logits(chips))
    assert received == [((3, 8, 8, 1), np.uint8)] * 2
    np.testing.assert_array_equal(
        model.explain(BRIGHT[0], cells=1), predictor.explain(BRIGHT[0], cells=1)
    )
    assert {dtype for _, dtype in received[2:]} == {np.dtype(np.float32)}


def test_a_notebook_shows_one_line(predictor):
    assert repr(predictor) == "Predictor(ships, 2 classes, torch fp32)"


def test_one_array(predictor):
    assert predictor.predict(BRIGHT[0])["class"].tolist() == ["bright"]


def test_rejected_chips_keep_their_rows(predictor):
    table = predictor.predict([DARK[0], DARK[0].astype(np.float32), BRIGHT[0]])
    assert table["class"].tolist()[::2] == ["dark", "bright"] and pd.isna(
        table["class"][1]
    )
    assert "float32 pixels without a declared unit" in table["rejected"][1]
    alone = predictor.predict(DARK[0].astype(np.float32))
    assert alone["rejected"].notna().all() and alone["class"].isna().all()
    assert set(alone) == set(table)


@pytest.mark.parametrize(("bands", "is_assumed"), [(None, True), (["VV", "VH"], False)])
def test_an_assumed_order_of_bands_is_noted(bands, is_assumed):
    contract = toy_contract(bands=("VH", "VV"), planes=("VH", "VV", "VH"))
    predictor = Predictor(
        toy_bundle(contract=contract),
        LoadedEngine(brightness_logits, contract, REFERENCE),
    )
    notes = predictor.predict(
        np.stack([DARK[0], BRIGHT[0]], axis=2), bands=bands
    ).attrs["notes"]
    assert [note for note in notes if "they are taken for VH, VV" in note] == notes[
        :is_assumed
    ]


def test_a_whole_scene_is_rejected(predictor, tmp_path):
    cv2.imwrite(str(tmp_path / "scene.png"), np.tile(BRIGHT[0], (6, 6)))
    table = predictor.predict(tmp_path / "scene.png")
    assert "96 x 96 pixels are a scene" in table["rejected"][0] and pd.isna(
        table["class"][0]
    )


@pytest.mark.parametrize(
    "chips", [[], np.zeros(3, np.uint8), np.zeros((2, 0, 4, 1), np.uint8)]
)
def test_no_chips(predictor, chips):
    with pytest.raises(RequestError):
        predictor.predict(chips)


@pytest.mark.slow
def test_trained_bundle_on_its_store(run, root):
    trained = rsft.load_bundle(run / "bundle", device="cpu")
    table = trained.predict(root)
    assert len(table) == 58 and set(table["class"]) <= set(trained.bundle.classes)
    paths = table["path"].tolist()[:3]
    assert trained.predict(paths)["p_flat"].tolist() == pytest.approx(
        table["p_flat"].tolist()[:3], abs=1e-5
    )
    assert trained.predict(paths[0])["class"].tolist() == table["class"].tolist()[:1]
