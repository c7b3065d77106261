"""The job on good and on broken chips and on scenes, with a model that tells dark from bright."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from rasterio.transform import Affine

from rsft.errors import DataError, RequestError, WeightsError
from rsft.inference.predict import job
from rsft.inference.predict.job import predict
from rsft.inference.predict.request import Request
from rsft.inference.predict.scene_plan import Look
from rsft.inference.scenes.chip_window import Wishes
from rsft.models.outputs import Outputs
from tests.helpers.killing import die, killed
from tests.helpers.scenes import UTM, brightness, chosen, contract, write
from tests.helpers.scenes import bundle as made


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


class _Opened:
    """In the place of Bundle: what a test wants to be loaded."""

    found = made()

    @classmethod
    def load(cls, folder):
        return cls.found


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(job, "Bundle", _Opened)
    monkeypatch.setattr(_Opened, "found", made())
    monkeypatch.setattr(job, "choose_engine", lambda bundle, *_: chosen(brightness, bundle))
    return Path("bundle")


def test_good_and_broken_chips(bundle: Path, broken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = predict(bundle, [broken], out, Request(batch_size=2))
    assert result.table["chip"].tolist() == ["a_dark.png", "b_bright.tif", "c_grey_as_rgb.png"]
    assert result.table["class"].tolist() == ["dark", "bright", "bright"]
    assert result.table["class_2"].tolist() == ["bright", "dark", "dark"]
    assert (result.table[["p_dark", "p_bright"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert result.counts == {"dark": 1, "bright": 2}
    reasons = {path.name[0]: reason for path, reason in result.rejected}
    assert list(reasons) == ["d", "e", "f", "g", "h"]
    assert "3 bands, but the model takes 1 (HH)" in reasons["g"] and "--bands" in reasons["g"]
    assert "uint16 pixels, but the model takes uint8" in reasons["h"]
    assert pd.read_csv(out)["probability"].between(0.5, 1).all()
    listing = pd.read_csv(tmp_path / "out.rejected.csv")
    assert listing["file"].tolist() == [str(path) for path, _ in result.rejected]
    assert result.notes == [
        "chips without usable georeference, so without geometry: 2 of 3",
        "grey chips stored as RGB, of which one band was used: 1",
        "the bundle has no calibration: probabilities are as the network gives them, without set and ood",
        "files of folders skipped for their suffix: 1",
        f"refused: 5, listed in {tmp_path / 'out.rejected.csv'}",
        "engine: toy",
    ]
    assert not list(tmp_path.glob(".*"))


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


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(html=Path("page.txt")), "HTML"),
        (Request(chips=Path("cut")), "cut from scenes alone"),
        (Request(look=Look(grid=8), wishes=Wishes(spacing=3.0)), "no such scene"),
    ],
)
def test_refused_before_the_work(bundle: Path, tmp_path: Path, request_: Request, told: str) -> None:
    with pytest.raises((RequestError, DataError), match=told):
        predict(bundle, [tmp_path / "absent.tif"], tmp_path / "out.csv", request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asked", [{"at": Path("x"), "grid": 3}, {"stride": 3}, {"crs": "EPSG:4326"}])
def test_options_that_do_not_go_together(asked: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"once|without"):
        Look(**asked)


def test_batches_and_readers_do_not_change_the_result(bundle: Path, chips: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    one = predict(bundle, [chips], tmp_path / "a.csv", Request(batch_size=1, readers=3))
    both = predict(bundle, [chips], tmp_path / "b.csv", Request(batch_size=2), lambda *step: calls.append(step))
    pd.testing.assert_frame_equal(one.table, both.table)
    assert calls == [(2, 3, "classifying"), (3, 3, "classifying")]


def test_engines_that_take_two_callers(bundle: Path, chips: Path, tmp_path: Path, monkeypatch) -> None:
    both = threading.Barrier(2, timeout=30)

    def engine(inputs):
        both.wait()  # comes back only once two are there
        return brightness(inputs)

    monkeypatch.setattr(job, "choose_engine", lambda bundle, *_: chosen(engine, bundle)._replace(callers=2))
    (chips / "c_grey_as_rgb.png").unlink()
    table = predict(bundle, [chips], tmp_path / "out.csv", Request(batch_size=1)).table
    assert table["class"].tolist() == ["dark", "bright"]


def test_diverged_model(bundle: Path, chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Outputs(np.full((3, 2), np.nan, np.float32), np.zeros((3, 1), np.float32))
    monkeypatch.setattr(job, "choose_engine", lambda bundle, *_: chosen(lambda inputs: nothing, bundle))
    with pytest.raises(WeightsError, match="not finite"):
        predict(bundle, [chips], tmp_path / "out.csv")


def test_name_that_is_not_utf8(bundle: Path, chips: Path, tmp_path: Path) -> None:
    odd = chips / os.fsdecode(b"caf\xe9.png")
    (chips / "a_dark.png").rename(odd)
    result = predict(bundle, [odd], tmp_path / "out.gpkg")
    assert result.table["chip"].tolist() == ["caf\\udce9.png"]


def test_a_scene_is_no_chip(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path / "s.tif", np.zeros((10, 9000), np.uint8))
    with pytest.raises(DataError, match="10 x 9,000 pixels are a scene, not a chip; say where to look: --at"):
        predict(bundle, [tmp_path / "s.tif"], tmp_path / "out.csv")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Left half dark, right half bright, 64 x 128, and an empty corner."""
    pixels = np.random.default_rng(0).integers(0, 60, (64, 128), np.uint8)
    pixels[:, 64:] += 180
    pixels[48:, :16] = 0
    return write(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)


def test_tiles_of_a_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    result = predict(bundle, [scene], tmp_path / "out.gpkg", Request(look=Look(grid=16), batch_size=7))
    assert len(result.table) == 31 and "tiles without data, left out: 1" in result.notes
    assert ((result.table["col"] > 64) == (result.table["class"] == "bright")).all()
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions").to_crs(32633)
    assert frame.geometry.area.to_numpy() == pytest.approx(160**2, rel=1e-3)
    assert "length_m" not in frame


def test_positions_in_a_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "at.csv").write_text("row,col\n20,30\n20,100\n20,1000\n,\n")
    request = Request(look=Look(at=tmp_path / "at.csv"), wishes=Wishes(side=16), chips=tmp_path / "cut")
    result = predict(bundle, [scene], tmp_path / "out.parquet", request)
    assert result.table["class"].tolist() == ["dark", "bright"] and result.table["at"].tolist() == [2, 3]
    assert result.table["path"].tolist() == [str(tmp_path / f"cut/s_{number:06d}.tif") for number in (2, 3)]
    assert result.rejected == [(Path(f"{tmp_path / 'at.csv'}:5"), "no position")]
    assert result.notes[:2] == ["s.tif lies by geotransform, EPSG:32633", "positions outside of s.tif: 1 of 3"]
    again = predict(bundle, [tmp_path / "cut"], tmp_path / "again.csv")
    assert again.table["p_dark"].tolist() == result.table["p_dark"].tolist()


def test_scenes_without_a_place(bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (16, 16), np.uint8)
    paths = [write(tmp_path / f"{name}.tif", pixels) for name in "ab"]
    result = predict(bundle, paths, tmp_path / "out.gpkg", Request(look=Look(grid=8)))
    assert result.table["scene"].value_counts().tolist() == [4, 4]
    assert result.table["geometry"][0].bounds == (0, -8, 8, 0)
    assert result.notes[0] == "a.tif has no georeference: places are in its pixels"
    result = predict(bundle, paths, tmp_path / "out.geojson", Request(look=Look(grid=8)))
    assert "GeoJSON knows degrees alone: it has no geometry, .gpkg has" in result.notes
    with pytest.raises(RequestError, match="two scenes are called a"):
        predict(bundle, [paths[0], paths[0]], tmp_path / "c.csv", Request(look=Look(grid=8)))


def test_nothing_in_the_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "at.csv").write_text("row,col\n2000,30\n")
    with pytest.raises(DataError, match="nothing to classify") as caught:
        predict(bundle, [scene], tmp_path / "o.csv", Request(look=Look(at=tmp_path / "at.csv"), wishes=Wishes(side=16)))
    assert "positions outside of s.tif: 1 of 1" in caught.value.fix


def test_tiles_that_the_model_would_not_look_at(bundle: Path, scene: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_Opened, "found", made(contract=contract(crop=32)))
    with pytest.raises(RequestError, match="tiles of 16 pixels, but the model looks at the middle 32"):
        predict(bundle, [scene], tmp_path / "out.csv", Request(look=Look(grid=16)))


def _until(calls: int, *arguments: object) -> None:
    """A job whose process dies in the engine."""
    left = [calls]

    def engine(inputs):
        left[0] -= 1
        if left[0] < 0:
            die()
        return brightness(inputs)

    job.Bundle, job.choose_engine = _Opened, lambda bundle, *_: chosen(engine, bundle)
    predict(*arguments)


@pytest.mark.parametrize("suffix", ["csv", "gpkg"])
def test_a_job_that_was_killed_goes_on(
    bundle: Path, scene: Path, tmp_path: Path, caplog, monkeypatch, suffix: str
) -> None:
    request = Request(look=Look(grid=8), batch_size=8)
    whole = predict(bundle, [scene], tmp_path / f"whole.{suffix}", request)
    killed(_until, 9, bundle, [scene], tmp_path / f"out.{suffix}", request)
    assert not (tmp_path / f"out.{suffix}").exists()
    seen = []

    def engine(inputs):
        seen.append(len(inputs))
        return brightness(inputs)

    monkeypatch.setattr(job, "choose_engine", lambda bundle, *_: chosen(engine, bundle))
    resumed = predict(bundle, [scene], tmp_path / f"out.{suffix}", request)
    assert re.search("going on with a job that was stopped after [89] batches", caplog.text) and sum(seen) < 78
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    assert resumed.notes == whole.notes and not list(tmp_path.glob(".*"))


def test_another_job_does_not_go_on_with_it(bundle: Path, scene: Path, tmp_path: Path, caplog) -> None:
    killed(_until, 2, bundle, [scene], tmp_path / "out.csv", Request(look=Look(grid=8), batch_size=8))
    result = predict(bundle, [scene], tmp_path / "out.csv", Request(look=Look(grid=16), batch_size=8))
    assert "another job was stopped there" in caplog.text and len(result.table) == 31


def test_a_journal_that_is_damaged(bundle: Path, chips: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / ".out.csv.journal").write_bytes(b"not a database" * 100)
    assert len(predict(bundle, [chips], tmp_path / "out.csv").table) == 3
    assert "damaged; the job begins anew" in caplog.text
