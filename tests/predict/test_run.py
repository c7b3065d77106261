"""The job on good and on broken chips, with a classifier that tells dark from bright."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from torch import Tensor, nn

from rsft.errors import DataError, RequestError, WeightsError
from rsft.imagery.contract import Contract
from rsft.imagery.stretch import AS_IT_IS
from rsft.predict import run
from rsft.predict.inputs import Declared
from rsft.predict.run import classify_chips, predict

CLASSES = ("dark", "bright")
CONTRACT = Contract(
    units={"uint8": (AS_IT_IS,) * 3},
    bands=("HH",),
    planes=("HH",) * 3,
    crop=None,
    size=8,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
)


class Brightness(nn.Module):
    """Logits (-x, x) of the mean input x."""

    def __init__(self) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor([-1.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return mean[:, None] * self.sign


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    folder = tmp_path / "chips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    dark, bright = rng.integers(0, 60, (16, 16), np.uint8), rng.integers(200, 256, (16, 16), np.uint8)
    cv2.imwrite(str(folder / "a_dark.png"), dark)
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    transform = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    with rasterio.open(folder / "b_bright.tif", "w", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(bright[None])
    cv2.imwrite(str(folder / "c_grey_as_rgb.png"), cv2.merge([bright] * 3))
    return folder


@pytest.fixture
def broken(chips: Path) -> Path:
    rng = np.random.default_rng(1)
    whole = (chips / "a_dark.png").read_bytes()
    (chips / "d_cut.png").write_bytes(whole[: len(whole) // 2])
    (chips / "e_text.png").write_text("not an image")
    cv2.imwrite(str(chips / "f_black.png"), np.zeros((16, 16), np.uint8))
    cv2.imwrite(str(chips / "g_colour.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    cv2.imwrite(str(chips / "h_deep.png"), rng.integers(0, 65536, (16, 16), np.uint16))
    (chips / "notes.txt").touch()
    return chips


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Path:
    made = SimpleNamespace(classes=CLASSES, contract=CONTRACT, sha256="0" * 64)
    monkeypatch.setattr(run, "Bundle", SimpleNamespace(load=lambda folder: made))
    monkeypatch.setattr(run, "load_classifier", lambda bundle, device: Brightness())
    return Path("bundle")


def test_good_and_broken_chips(bundle: Path, broken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = predict(bundle, [broken], out, batch_size=2)
    assert result.table["chip"].tolist() == ["a_dark.png", "b_bright.tif", "c_grey_as_rgb.png"]
    assert result.table["class"].tolist() == ["dark", "bright", "bright"]
    assert (result.table[["p_dark", "p_bright"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert result.counts == {"dark": 1, "bright": 2}
    reasons = {path.name[0]: reason for path, reason in result.rejected}
    assert list(reasons) == ["d", "e", "f", "g", "h"]
    assert "3 bands, but the model takes 1 (HH)" in reasons["g"]
    assert "uint16 pixels, but the model takes uint8" in reasons["h"]
    assert pd.read_csv(out)["probability"].between(0.5, 1).all()
    listing = pd.read_csv(tmp_path / "out.rejected.csv")
    assert listing["file"].tolist() == [str(path) for path, _ in result.rejected]
    assert result.notes == [
        "chips without usable georeference, so without geometry: 2 of 3",
        "grey chips stored as RGB, of which one band was used: 1",
        "files of folders skipped for their suffix: 1",
        f"chips refused: 5, listed in {tmp_path / 'out.rejected.csv'}",
    ]


def test_stale_list_of_refused_goes(bundle: Path, chips: Path, tmp_path: Path) -> None:
    stale = tmp_path / "out.rejected.csv"
    stale.touch()
    assert predict(bundle, [chips], tmp_path / "out.geojson").rejected == []
    assert not stale.exists()


def test_nothing_usable(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match="none of the 1 chips"):
        predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert (tmp_path / "out.rejected.csv").exists()
    assert not (tmp_path / "out.csv").exists()


def test_existing_output_is_refused_before_the_work(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").touch()
    with pytest.raises(RequestError, match="--overwrite"):
        predict(bundle, [tmp_path / "absent"], tmp_path / "out.csv")


def test_batches_do_not_change_the_result(chips: Path) -> None:
    paths, seen, calls = sorted(chips.iterdir()), [], []

    def classify(x: Tensor) -> Tensor:
        seen.append(len(x))
        return Brightness().forward(x)

    one = classify_chips(dict.fromkeys(paths, Declared()), CONTRACT, CLASSES, classify, batch_size=1)
    both = classify_chips(
        dict.fromkeys(paths, Declared()),
        CONTRACT,
        CLASSES,
        classify,
        batch_size=2,
        progress=lambda *step: calls.append(step),
    )
    pd.testing.assert_frame_equal(one.table, both.table)
    assert seen == [1, 1, 1, 2, 1]
    assert calls == [(2, 3, "classifying"), (3, 3, "classifying")]


def test_diverged_model(chips: Path) -> None:
    with pytest.raises(WeightsError, match="not finite"):
        classify_chips(
            dict.fromkeys(sorted(chips.iterdir()), Declared()),
            CONTRACT,
            CLASSES,
            lambda x: torch.full((len(x), 2), torch.nan),
            batch_size=8,
        )


def test_name_that_is_not_utf8(chips: Path) -> None:
    odd = chips / os.fsdecode(b"caf\xe9.png")
    (chips / "a_dark.png").rename(odd)
    result = classify_chips({odd: Declared()}, CONTRACT, CLASSES, Brightness(), batch_size=1)
    assert result.table["chip"].tolist() == ["caf\\udce9.png"]
