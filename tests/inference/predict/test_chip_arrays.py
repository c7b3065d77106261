"""Arrays as NumPy, PyTorch and rasterio give them are classified as their files are."""

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch

from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.inference.predict.predictor import Predictor
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract

CHIPS = np.random.default_rng(0).integers(0, 256, (4, 64, 64), np.uint8)
GRAY = CHIPS[..., None]
RGB = np.repeat(GRAY, 3, axis=3)
LAYOUTS = {
    "N, H, W, 1": GRAY,
    "N, H, W": CHIPS,
    "N, 1, H, W": GRAY.transpose(0, 3, 1, 2),
    "gray as N, H, W, 3": RGB,
    "gray as N, 3, H, W": RGB.transpose(0, 3, 1, 2),
    "list of H, W": list(CHIPS),
    "list of 1, H, W": list(GRAY.transpose(0, 3, 1, 2)),
    "mixed list": [CHIPS[0], GRAY[1], GRAY[2].transpose(2, 0, 1), RGB[3]],
    "tensor N, H, W, 1": torch.from_numpy(GRAY),
    "tensor N, 1, H, W": torch.from_numpy(GRAY).permute(0, 3, 1, 2),
    "tensor with a gradient": torch.from_numpy(CHIPS).float().requires_grad_(),
    "float32": CHIPS.astype(np.float32),
    "int64": CHIPS.astype(int),
    "list of tensors": list(torch.from_numpy(CHIPS)),
}
ONE = {
    "H, W": CHIPS[0],
    "H, W, 1": GRAY[0],
    "1, H, W": GRAY[0].transpose(2, 0, 1),
    "gray as H, W, 3": RGB[0],
    "tensor 1, H, W": torch.from_numpy(CHIPS[:1]),
}


@pytest.fixture(scope="module")
def expected(model, tmp_path_factory):
    """The table of the same chips in files."""
    folder = tmp_path_factory.mktemp("chips")
    for number, chip in enumerate(CHIPS):
        cv2.imwrite(str(folder / f"{number}.png"), chip)
    return model.predict(folder).drop(columns=["chip", "path", "geometry"])


def assert_equal(table, expected):
    table = table.drop(columns="chip")
    pd.testing.assert_frame_equal(table, expected, rtol=1e-4, check_dtype=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(model, expected, layout):
    assert_equal(model.predict(LAYOUTS[layout], unit="uint8"), expected)


@pytest.mark.parametrize("layout", ONE)
def test_layouts_of_one_chip(model, expected, layout):
    assert_equal(model.predict(ONE[layout]), expected.head(1))


def test_what_rasterio_reads(model, expected, tmp_path):
    path = tmp_path / "chip.png"
    cv2.imwrite(str(path), CHIPS[0])
    with rasterio.open(path) as dataset:
        assert_equal(model.predict(dataset.read()), expected.head(1))
        assert_equal(model.predict(dataset.read(1)), expected.head(1))
        assert model.predict(dataset).equals(model.predict(path))
        assert model.predict([dataset]).equals(model.predict([path]))


@pytest.fixture
def dual():
    """A model of VV and VH, of which it uses VV alone as its third band."""
    stretches = (IDENTITY_STRETCH,) * 2
    contract = toy_contract(
        units={"uint8": stretches, "sigma0": stretches},
        bands=("VV", "VH"),
        planes=("VV", "VH"),
        mean=(0.5,) * 2,
        std=(0.25,) * 2,
    )
    bundle = toy_bundle(contract=contract)
    return Predictor(bundle, LoadedEngine(brightness_logits, contract, REFERENCE))


def test_bands_are_found_by_their_number(dual):
    last = np.random.default_rng(0).integers(0, 256, (3, 16, 12, 2), np.uint8)
    expected = dual.predict(list(last))
    for chips in (last, last.transpose(0, 3, 1, 2), torch.from_numpy(last)):
        assert dual.predict(chips).equals(expected)
    assert dual.predict(last[0].transpose(2, 0, 1)).equals(expected.head(1))
    more = np.concatenate([last[..., 1:], last, last], axis=3)
    names = ["VH", "VV", "x", "y", "z"]
    named = dual.predict(more.transpose(0, 3, 1, 2), bands=names)
    assert named["p_bright"].equals(expected["p_bright"])


def test_pixels_without_a_unit_name_the_argument(dual):
    chips = np.random.default_rng(0).random((1, 2, 8, 8), np.float32)
    reason = dual.predict(chips)["rejected"][0]
    assert "float32 pixels without a declared unit" in reason
    assert "`unit`" in reason and "--" not in reason
    assert dual.predict(chips, unit="sigma0")["rejected"][0] is None
    reason = dual.predict(chips, unit="uint8")["rejected"][0]
    assert "uint8" in reason and "--" not in reason
    reason = dual.predict(chips * np.nan, unit="uint16")["rejected"][0]
    assert "--" not in reason
    with pytest.raises(DataError, match="chip 0: float32 pixels without"):
        dual.logits(chips)


@pytest.mark.parametrize(
    ("shape", "argument"),
    [
        ((64, 64), "chips"),
        ((64, 64, 5), "chips"),
        ((5, 64, 64, 5), "chips"),
        ((7,), "chips"),
        ((1, 1, 2, 8, 8), "chips"),
        ((2, 0, 8), "chips"),
        ((2, 64, 2), "channels"),
        ((9, 2, 64, 2), "channels"),
    ],
)
def test_what_is_ambiguous_or_no_chip_is_refused(dual, shape, argument):
    with pytest.raises(RequestError) as error:
        dual.predict(np.zeros(shape, np.uint8))
    assert error.value.location == argument and "--" not in str(error.value)


def test_channels_says_which_axis_it_is(dual):
    chips = np.random.default_rng(0).integers(0, 256, (2, 9, 2), np.uint8)
    first = dual.predict(chips, channels="first")
    assert first.equals(dual.predict([chips.transpose(1, 2, 0)], channels="last"))
    last = dual.predict(chips, channels="last")
    assert last["p_bright"][0] != first["p_bright"][0]
    with pytest.raises(RequestError, match="has no axis of 2"):
        dual.predict(np.zeros((8, 8, 2), np.uint8), channels="first")


def test_chips_of_one_used_band_and_complete_chips_are_told_apart():
    contract = toy_contract(bands=("VV", "VH"), planes=("VV",) * 3)
    bundle = toy_bundle(contract=contract)
    model = Predictor(bundle, LoadedEngine(brightness_logits, contract, REFERENCE))
    chips = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    with pytest.raises(RequestError, match="may be 2 chips of one band, or one chip"):
        model.predict(chips)
    assert len(model.predict(list(chips))) == 2
    assert len(model.predict(chips, channels="first")) == 1
    assert len(model.predict(np.zeros((5, 16, 16), np.uint8))) == 5


@pytest.mark.parametrize(
    "chips", [torch.zeros(1, 8, 8, dtype=torch.bfloat16), [[1], [1, 2]], None, [None]]
)
def test_what_is_no_array(model, chips):
    with pytest.raises((RequestError, DataError, TypeError)) as error:
        model.logits(chips)
    assert "--" not in str(error.value)


def test_pixels_are_resampled_to_the_spacing_of_the_model():
    contract = toy_contract(spacing_m=20)
    bundle = toy_bundle(contract=contract)
    model = Predictor(bundle, LoadedEngine(brightness_logits, contract, REFERENCE))
    chip = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    reason = model.predict(chip, spacing=10)["rejected"][0]
    assert "`resample_to` 20" in reason
    table = model.predict(chip, spacing=10, resample_to=20)
    half = cv2.resize(chip, (16, 16), interpolation=cv2.INTER_AREA)
    assert table["p_bright"].equals(model.predict(half, spacing=20)["p_bright"])
