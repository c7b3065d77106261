"""The graph of the chip treatment gives the inputs of `Contract.to_input`."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import CHIP_MAX, IDENTITY_STRETCH, Stretch
from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import find_format
from rsft.inference.engines.traceable import trace
from rsft.inference.export.whole import ByteResize, ChipTreatment
from tests.helpers.messages import mentions

RNG = np.random.default_rng(0)
LINEAR = Stretch(low=-25.0, high=5.0)
LOG = Stretch(curve="log1p", low=0.0, high=300.0)


def make_contract(units, bands, planes, **fields):
    """Return a contract with inputs of 32 pixels."""
    count = len(planes)
    defaults = {"crop": None, "size": 32, "mean": (0.4,) * count, "std": (0.2,) * count}
    return Contract(units=units, bands=bands, planes=planes, **(defaults | fields))


GRAY = make_contract({"uint8": (IDENTITY_STRETCH,) * 3}, ("gray",), ("gray",) * 3)
REFLECTANCE = Stretch(low=0, high=3000)
SIX = ("B02", "B03", "B04", "B08", "B11", "B12")
OPTICAL = make_contract(
    {"uint16": (REFLECTANCE,) * 3}, ("B02", "B03", "B04", "B08"), ("B04", "B03", "B02")
)
SIX_BANDS = make_contract({"uint16": (REFLECTANCE,) * 6}, SIX, SIX)
INDEX = make_contract(
    {"uint16": (Stretch(low=-1, high=1), REFLECTANCE, Stretch(low=0, high=10))},
    ("B04", "B08"),
    ("(B08 - B04) / (B08 + B04)", "B04 * 0.5 - 1", "2"),
)
DECIBEL = make_contract(
    {"db": (LINEAR, LINEAR, Stretch(low=-10, high=20))},
    ("VV", "VH"),
    ("VV", "VH", "VV - VH"),
)
COMPRESSED = (Stretch(high=0.1, top=0.7), Stretch(curve="log", low=0.001, high=0.7))
SIGMA0 = make_contract({"sigma0": COMPRESSED}, ("VV", "VH"), ("VV", "VH"))
AMPLITUDES = {"amplitude": (LOG,) * 3, "intensity": (Stretch(low=0, high=9e4),) * 3}
AMPLITUDE = make_contract(
    AMPLITUDES, ("HH",), ("HH",) * 3, digital="amplitude", crop=24
)


def pixels_of(contract, unit, side):
    """Return chips (4, B, side, side) in a unit."""
    shape = (4, len(contract.used_bands), side, side)
    if unit == "uint8":
        return RNG.integers(0, 256, shape).astype(np.float32)
    if unit == "uint16":
        return RNG.integers(0, 4000, shape).astype(np.float32)
    values = RNG.rayleigh({"amplitude": 100, "intensity": 1e4}.get(unit, 0.1), shape)
    return (10 * np.log10(values) if unit == "db" else values).astype(np.float32)


@pytest.mark.parametrize("side", [11, 24, 32, 40, 48, 64, 96])
@pytest.mark.parametrize(
    ("contract", "unit"),
    [
        (GRAY, "uint8"),
        (OPTICAL, "uint16"),
        (INDEX, "uint16"),
        (SIX_BANDS, "uint16"),
        (DECIBEL, "db"),
        (DECIBEL, "sigma0"),
        (SIGMA0, "sigma0"),
        (AMPLITUDE, "amplitude"),
        (AMPLITUDE, "intensity"),
        (AMPLITUDE, "sigma0"),
    ],
)
def test_inputs_are_those_of_the_contract(contract, unit, side):
    if contract.crop is not None and side < contract.crop:
        return
    pixels = pixels_of(contract, unit, side)
    if contract is DECIBEL:
        pixels[0, 0, :3, :3] = np.nan if unit == "db" else 0
    treatment = ChipTreatment(contract, unit, side)
    inputs = treatment(torch.from_numpy(pixels)).numpy()
    dtype = unit if unit.startswith("uint") else "float32"
    expected = np.stack(
        [
            contract.to_input(np.moveaxis(chip, 0, 2).astype(dtype), unit)
            for chip in pixels
        ]
    )
    assert inputs.shape == expected.shape and inputs.dtype == np.float32
    step = 1 / 255 / contract.std[0]
    assert (
        np.abs(inputs - expected).max() <= 1.01 * step
        and (inputs != expected).mean() < 1e-3
    )


class Treatments(nn.Module):
    """The treatments of groups of bands, each with its own side, in one graph, which is
    converted once."""

    def __init__(self, cases):
        super().__init__()
        self.parts = nn.ModuleList(ChipTreatment(*case) for case in cases)
        self.sides = [side for *_, side in cases]
        self.counts = [len(contract.used_bands) for contract, *_ in cases]

    def forward(self, pixels):
        groups = zip(self.parts, pixels.split(self.counts, 1), self.sides, strict=True)
        return torch.cat(
            [part(group[:, :, :side, :side]) for part, group, side in groups], 1
        )


@pytest.mark.exhaustive
def test_onnx_runtime_computes_the_same_inputs(tmp_path):
    cases = [
        (SIX_BANDS, "uint16", 48),
        (INDEX, "uint16", 24),
        (DECIBEL, "sigma0", 40),
        (AMPLITUDE, "sigma0", 40),
    ]
    groups = [pixels_of(contract, unit, 48) for contract, unit, _ in cases]
    for group, (_, unit, _) in zip(groups, cases, strict=True):
        group[0, 0, :3, :3] = np.nan if unit == "sigma0" else 0
    pixels = np.concatenate(groups, 1)
    treatments = Treatments(cases)
    engine = find_format("onnx")
    metadata = {"input": {"name": "pixels"}, "outputs": ["inputs"]}
    engine.write_graph(
        trace(treatments, torch.from_numpy(pixels[:2])), tmp_path, metadata
    )
    (inputs,) = engine.run_pipeline(tmp_path / "model.onnx", pixels)
    expected = treatments(torch.from_numpy(pixels)).numpy()
    assert inputs.shape == expected.shape
    ends = np.cumsum([len(contract.planes) for contract, *_ in cases])[:-1]
    for (contract, *_), *images in zip(
        cases, np.split(inputs, ends, 1), np.split(expected, ends, 1), strict=True
    ):
        assert np.abs(images[0] - images[1]).max() <= 1.01 / 255 / contract.std[0]
        assert (images[0] != images[1]).mean() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("side", "size"),
    [(64, 32), (96, 32), (128, 32), (48, 32), (33, 32), (20, 32), (7, 32), (31, 32)],
)
def test_bytes_are_those_of_opencv(side, size, channels):
    images = RNG.integers(0, 256, (3, channels, side, side), np.uint8)
    resized = ByteResize(side, size, channels)(torch.from_numpy(images).float()).numpy()
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    for image, result in zip(images, resized, strict=True):
        expected = cv2.resize(
            np.ascontiguousarray(np.moveaxis(image, 0, 2)),
            (size, size),
            interpolation=method,
        )
        np.testing.assert_array_equal(
            np.moveaxis(result, 0, 2), expected.reshape(size, size, channels)
        )


def test_what_no_graph_computes_is_refused():
    with pytest.raises(RequestError, match="maximum of each chip"):
        ChipTreatment(
            make_contract({"amplitude": (CHIP_MAX,)}, ("HH",), ("HH",)), "amplitude", 32
        )
    with pytest.raises(DataError, match=mentions("gamma0 pixels", "takes db")):
        ChipTreatment(DECIBEL, "gamma0", 32)
