"""The prediction job on good and broken chips and on scenes, with a toy model that classifies by brightness."""

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
from rsft.inference.predict.request import PredictionRequest
from rsft.inference.predict.scene_plan import SceneQuery
from rsft.inference.scenes.chip_window import ChipOptions
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.scenes import UTM, brightness_logits, toy_bundle, toy_contract, toy_engine, write_geotiff


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
    cv2.imwrite(str(folder / "c_gray_as_rgb.png"), cv2.merge([bright] * 3))
    return folder


@pytest.fixture
def broken(chips: Path) -> Path:
    rng = np.random.default_rng(1)
    png = (chips / "a_dark.png").read_bytes()
    (chips / "d_cut.png").write_bytes(png[: len(png) // 2])
    (chips / "e_text.png").write_text("not an image")
    cv2.imwrite(str(chips / "f_black.png"), np.zeros((16, 16), np.uint8))
    cv2.imwrite(str(chips / "g_color.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    cv2.imwrite(str(chips / "h_deep.png"), rng.integers(0, 65536, (16, 16), np.uint16))
    (chips / "notes.txt").touch()
    return chips


class _FakeBundle:
    """Replaces `Bundle`; a test sets the bundle that it loads."""

    loaded = toy_bundle()

    @classmethod
    def load(cls, folder):
        return cls.loaded


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(job, "Bundle", _FakeBundle)
    monkeypatch.setattr(_FakeBundle, "loaded", toy_bundle())
    monkeypatch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(brightness_logits, bundle))
    return Path("bundle")


def test_good_and_broken_chips(bundle: Path, broken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = predict(bundle, [broken], out, PredictionRequest(batch_size=2))
    assert result.table["chip"].tolist() == ["a_dark.png", "b_bright.tif", "c_gray_as_rgb.png"]
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
        "chips without a usable georeference have no geometry: 2 of 3",
        "gray chips stored as RGB (only one band was used): 1",
        "the bundle is not calibrated: probabilities are those of the network, without set and ood",
        "files in folders that are not images by their suffix: 1",
        f"rejected: 5, listed in {tmp_path / 'out.rejected.csv'}",
        "engine: toy",
    ]
    assert not list(tmp_path.glob(".*"))


def test_old_list_of_rejected_chips_is_removed(bundle: Path, chips: Path, tmp_path: Path) -> None:
    stale = tmp_path / "out.rejected.csv"
    stale.touch()
    assert predict(bundle, [chips], tmp_path / "out.geojson").rejected == []
    assert not stale.exists()


def test_no_usable_chip(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match="none of the 1 chips"):
        predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert (tmp_path / "out.rejected.csv").exists()
    assert not (tmp_path / "out.csv").exists()


def test_existing_output_is_refused_before_any_work(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").touch()
    with pytest.raises(RequestError, match="--overwrite"):
        predict(bundle, [tmp_path / "absent"], tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PredictionRequest(html_path=Path("page.txt")), "HTML"),
        (PredictionRequest(chips_dir=Path("cut")), "only saved if they are cut from scenes"),
        (PredictionRequest(query=SceneQuery(grid=8), chip_options=ChipOptions(spacing=3.0)), "no such scene"),
    ],
)
def test_refused_before_any_work(bundle: Path, tmp_path: Path, request_: PredictionRequest, message: str) -> None:
    with pytest.raises((RequestError, DataError), match=message):
        predict(bundle, [tmp_path / "absent.tif"], tmp_path / "out.csv", request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"at": Path("x"), "grid": 3}, {"stride": 3}, {"crs": "EPSG:4326"}])
def test_incompatible_options(options: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"together|needs"):
        SceneQuery(**options)


def test_batches_and_readers_do_not_change_the_result(bundle: Path, chips: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    one = predict(bundle, [chips], tmp_path / "a.csv", PredictionRequest(batch_size=1, readers=3))
    both = predict(
        bundle, [chips], tmp_path / "b.csv", PredictionRequest(batch_size=2), lambda *step: calls.append(step)
    )
    pd.testing.assert_frame_equal(one.table, both.table)
    assert calls == [(2, 3, "classifying"), (3, 3, "classifying")]


def test_engines_that_take_two_callers(bundle: Path, chips: Path, tmp_path: Path, monkeypatch) -> None:
    both = threading.Barrier(2, timeout=30)

    def engine(inputs):
        both.wait()  # returns once two threads have called it
        return brightness_logits(inputs)

    monkeypatch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(engine, bundle)._replace(concurrency=2))
    (chips / "c_gray_as_rgb.png").unlink()
    table = predict(bundle, [chips], tmp_path / "out.csv", PredictionRequest(batch_size=1)).table
    assert table["class"].tolist() == ["dark", "bright"]


def test_diverged_model(bundle: Path, chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = ClassifierOutputs(np.full((3, 2), np.nan, np.float32), np.zeros((3, 1), np.float32))
    monkeypatch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(lambda inputs: outputs, bundle))
    with pytest.raises(WeightsError, match="not finite"):
        predict(bundle, [chips], tmp_path / "out.csv")


def test_name_that_is_not_utf8(bundle: Path, chips: Path, tmp_path: Path) -> None:
    odd = chips / os.fsdecode(b"caf\xe9.png")
    (chips / "a_dark.png").rename(odd)
    result = predict(bundle, [odd], tmp_path / "out.gpkg")
    assert result.table["chip"].tolist() == ["caf\\udce9.png"]


def test_scene_given_as_a_chip(bundle: Path, tmp_path: Path) -> None:
    write_geotiff(tmp_path / "s.tif", np.zeros((10, 9000), np.uint8))
    with pytest.raises(DataError, match="10 x 9,000 pixels are a scene, not a chip; say where to cut chips: --at"):
        predict(bundle, [tmp_path / "s.tif"], tmp_path / "out.csv")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Write a scene of 64 x 128 pixels: the left side dark, the right side bright, one corner empty."""
    pixels = np.random.default_rng(0).integers(0, 60, (64, 128), np.uint8)
    pixels[:, 64:] += 180
    pixels[48:, :16] = 0
    return write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)


def test_tiles_of_a_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    result = predict(bundle, [scene], tmp_path / "out.gpkg", PredictionRequest(query=SceneQuery(grid=16), batch_size=7))
    assert len(result.table) == 31 and "tiles without data were left out: 1" in result.notes
    assert ((result.table["col"] > 64) == (result.table["class"] == "bright")).all()
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions").to_crs(32633)
    assert frame.geometry.area.to_numpy() == pytest.approx(160**2, rel=1e-3)
    assert "length_m" not in frame


def test_positions_in_a_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "at.csv").write_text("row,col\n20,30\n20,100\n20,1000\n,\n")
    request = PredictionRequest(
        query=SceneQuery(at=tmp_path / "at.csv"), chip_options=ChipOptions(side=16), chips_dir=tmp_path / "cut"
    )
    result = predict(bundle, [scene], tmp_path / "out.parquet", request)
    assert result.table["class"].tolist() == ["dark", "bright"] and result.table["at"].tolist() == [2, 3]
    assert result.table["path"].tolist() == [str(tmp_path / f"cut/s_{number:06d}.tif") for number in (2, 3)]
    assert result.rejected == [(Path(f"{tmp_path / 'at.csv'}:5"), "no position")]
    assert result.notes[:2] == ["georeference of s.tif: geotransform, EPSG:32633", "positions outside of s.tif: 1 of 3"]
    again = predict(bundle, [tmp_path / "cut"], tmp_path / "again.csv")
    assert again.table["p_dark"].tolist() == result.table["p_dark"].tolist()


def test_scenes_without_georeference(bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (16, 16), np.uint8)
    paths = [write_geotiff(tmp_path / f"{name}.tif", pixels) for name in "ab"]
    result = predict(bundle, paths, tmp_path / "out.gpkg", PredictionRequest(query=SceneQuery(grid=8)))
    assert result.table["scene"].value_counts().tolist() == [4, 4]
    assert result.table["geometry"][0].bounds == (0, -8, 8, 0)
    assert result.notes[0] == "a.tif has no georeference: coordinates are in pixels"
    result = predict(bundle, paths, tmp_path / "out.geojson", PredictionRequest(query=SceneQuery(grid=8)))
    assert "the table has no geometry: GeoJSON needs degrees; .gpkg also takes pixel coordinates" in result.notes
    with pytest.raises(RequestError, match="two scenes have the name a"):
        predict(bundle, [paths[0], paths[0]], tmp_path / "c.csv", PredictionRequest(query=SceneQuery(grid=8)))


def test_no_position_in_the_scene(bundle: Path, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "at.csv").write_text("row,col\n2000,30\n")
    with pytest.raises(DataError, match="nothing to classify") as caught:
        predict(
            bundle,
            [scene],
            tmp_path / "o.csv",
            PredictionRequest(query=SceneQuery(at=tmp_path / "at.csv"), chip_options=ChipOptions(side=16)),
        )
    assert "positions outside of s.tif: 1 of 1" in caught.value.hint


def test_tiles_of_another_size_than_the_crop(bundle: Path, scene: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_FakeBundle, "loaded", toy_bundle(contract=toy_contract(crop=32)))
    with pytest.raises(RequestError, match="tiles have 16 pixels, but the model takes the middle 32 pixels"):
        predict(bundle, [scene], tmp_path / "out.csv", PredictionRequest(query=SceneQuery(grid=16)))


def _killed_after(calls: int, *arguments: object) -> None:
    """Run a job whose process is killed after some calls of the engine."""
    remaining = [calls]

    def engine(inputs):
        remaining[0] -= 1
        if remaining[0] < 0:
            kill_this_process()
        return brightness_logits(inputs)

    job.Bundle, job.select_engine = _FakeBundle, lambda bundle, *_: toy_engine(engine, bundle)
    predict(*arguments)


@pytest.mark.parametrize("suffix", ["csv", "gpkg"])
def test_killed_job_is_resumed(bundle: Path, scene: Path, tmp_path: Path, caplog, monkeypatch, suffix: str) -> None:
    request = PredictionRequest(query=SceneQuery(grid=8), batch_size=8)
    whole = predict(bundle, [scene], tmp_path / f"whole.{suffix}", request)
    run_until_killed(_killed_after, 9, bundle, [scene], tmp_path / f"out.{suffix}", request)
    assert not (tmp_path / f"out.{suffix}").exists()
    batch_sizes = []

    def engine(inputs):
        batch_sizes.append(len(inputs))
        return brightness_logits(inputs)

    monkeypatch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(engine, bundle))
    resumed = predict(bundle, [scene], tmp_path / f"out.{suffix}", request)
    assert re.search("resuming an interrupted job after [89] batches", caplog.text) and sum(batch_sizes) < 78
    pd.testing.assert_frame_equal(resumed.table, whole.table)
    assert resumed.notes == whole.notes and not list(tmp_path.glob(".*"))


def test_journal_of_another_job_is_deleted(bundle: Path, scene: Path, tmp_path: Path, caplog) -> None:
    run_until_killed(
        _killed_after,
        2,
        bundle,
        [scene],
        tmp_path / "out.csv",
        PredictionRequest(query=SceneQuery(grid=8), batch_size=8),
    )
    result = predict(bundle, [scene], tmp_path / "out.csv", PredictionRequest(query=SceneQuery(grid=16), batch_size=8))
    assert "belongs to a different job" in caplog.text and len(result.table) == 31


def test_damaged_journal(bundle: Path, chips: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / ".out.csv.journal").write_bytes(b"not a database" * 100)
    assert len(predict(bundle, [chips], tmp_path / "out.csv").table) == 3
    assert "damaged; the job starts again" in caplog.text
