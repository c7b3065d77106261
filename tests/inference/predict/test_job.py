"""The prediction job on good and broken chips, with a toy model that classifies by
brightness."""

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.errors import DataError, RequestError, WeightsError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import Query
from tests.helpers.geokeys import write_chip_with_damaged_geokey
from tests.helpers.messages import mentions
from tests.helpers.scenes import (
    UTM,
    brightness_calibrator,
    brightness_logits,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)


@pytest.fixture
def chips(tmp_path):
    folder = tmp_path / "chips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 60, (16, 16), np.uint8)
    bright = rng.integers(200, 256, (16, 16), np.uint8)
    cv2.imwrite(str(folder / "a_dark.png"), dark)
    write_geotiff(folder / "b_bright.tif", bright, crs="EPSG:32633", transform=UTM)
    cv2.imwrite(str(folder / "c_gray_as_rgb.png"), cv2.merge([bright] * 3))
    return folder


@pytest.fixture
def broken(chips):
    rng = np.random.default_rng(1)
    png = (chips / "a_dark.png").read_bytes()
    (chips / "d_cut.png").write_bytes(png[: len(png) // 2])
    (chips / "e_text.png").write_text("not an image")
    cv2.imwrite(str(chips / "f_black.png"), np.zeros((16, 16), np.uint8))
    cv2.imwrite(str(chips / "g_color.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    cv2.imwrite(str(chips / "h_deep.png"), rng.integers(0, 65536, (16, 16), np.uint16))
    write_chip_with_damaged_geokey(chips / "i_geokey.tif")
    (chips / "j_large.png").touch()
    os.truncate(chips / "j_large.png", 24 * 2**30)
    write_geotiff(
        chips / "k_inverted.tif",
        rng.integers(0, 256, (16, 16), np.uint8),
        photometric="miniswhite",
    )
    (chips / "notes.txt").touch()
    return chips


def test_good_and_broken_chips(bundle, broken, tmp_path):
    out = tmp_path / "out.csv"
    result = predict(bundle, [broken], out, PredictionRequest(batch_size=2))
    assert result.table["chip"].tolist() == [
        "a_dark.png",
        "b_bright.tif",
        "c_gray_as_rgb.png",
    ]
    assert result.table["class"].tolist() == ["dark", "bright", "bright"]
    assert result.table["class_2"].tolist() == ["bright", "dark", "dark"]
    assert (result.table[["p_dark", "p_bright"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert result.counts == {"dark": 1, "bright": 2}
    reasons = {path.name[0]: reason for path, reason in result.rejected}
    assert list(reasons) == ["d", "e", "f", "g", "h", "i", "j", "k"]
    assert (
        "3 bands, but the model takes 1 (HH)" in reasons["g"]
        and "--bands" in reasons["g"]
    )
    assert "uint16 pixels, but the model takes uint8" in reasons["h"]
    assert (
        "damaged" in reasons["i"]
        and "25,769,803,776 bytes" in reasons["j"]
        and "MINISWHITE" in reasons["k"]
    )
    assert pd.read_csv(out)["probability"].between(0.5, 1).all()
    listing = pd.read_csv(tmp_path / "out.rejected.csv")
    assert listing["file"].tolist() == [str(path) for path, _ in result.rejected]
    assert result.notes == [
        "chips without a usable georeference have no geometry: 2 of 3",
        "gray chips stored as RGB (only one band was used): 1",
        (
            "the bundle is not calibrated: probabilities are those of the network,"
            " without class_set and ood"
        ),
        "files in folders that are not images by their suffix: 1",
        f"rejected: 8, listed in {tmp_path / 'out.rejected.csv'}",
        "engine: torch fp32",
    ]
    assert not list(tmp_path.glob(".*"))


def test_no_usable_chip(bundle, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=mentions("none of the 1")):
        predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert (tmp_path / "out.rejected.csv").exists()
    assert not (tmp_path / "out.csv").exists()
    cv2.imwrite(str(tmp_path / "text.png"), np.eye(16, dtype=np.uint8))
    predict(bundle, [tmp_path / "text.png"], tmp_path / "out.csv")
    assert not (tmp_path / "out.rejected.csv").exists()


@pytest.fixture
def whole_scene(tmp_path):
    """An image of 80 x 100 pixels, for a model whose inputs have 8 x 8."""
    pixels = np.random.default_rng(0).integers(200, 256, (80, 100), np.uint8)
    return write_geotiff(
        tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM
    )


def test_a_scene_is_not_one_chip(bundle, whole_scene, tmp_path):
    message = (str(whole_scene), "80 x 100", "scene, not a chip of 8 x 8")
    options = ("--detect", "--grid 8", "--at POSITIONS", "--size 100")
    with pytest.raises(DataError, match=mentions(*message, *options)):
        predict(bundle, [whole_scene], tmp_path / "out.csv")
    request = PredictionRequest(chip_options=ChipOptions(size=ChipSize(100)))
    assert predict(bundle, [whole_scene], tmp_path / "out.csv", request).counts == {
        "dark": 0,
        "bright": 1,
    }


def test_a_scene_among_chips_is_rejected(bundle, chips, whole_scene, tmp_path):
    whole_scene.rename(chips / "d_scene.tif")
    result = predict(bundle, [chips], tmp_path / "out.csv")
    assert len(result.table) == 3
    ((path, reason),) = result.rejected
    assert (
        path.name == "d_scene.tif"
        and "a scene, not a chip" in reason
        and "--detect" in reason
    )


def two_bands(monkeypatch):
    """Let jobs use a model of VH and VV that takes the brightness of VH."""
    contract = toy_contract(bands=("VH", "VV"), planes=("VH", "VV", "VH"))
    use_toy_model(monkeypatch, toy_bundle(contract=contract))


@pytest.mark.parametrize("query", [Query(), Query(grid=8)], ids=["chips", "scene"])
@pytest.mark.parametrize(
    ("names", "declared", "is_assumed"),
    [((), None, True), (("VV", "VH"), None, False), ((), ("VV", "VH"), False)],
)
def test_an_assumed_order_of_bands_is_stated_in_the_result(
    monkeypatch, tmp_path, query, names, declared, is_assumed
):
    two_bands(monkeypatch)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
    path = write_geotiff(
        tmp_path / "a.tif", pixels, names=names, crs="EPSG:32633", transform=UTM
    )
    request = PredictionRequest(query=query, declaration=Declaration(bands=declared))
    result = predict(Path("bundle"), [path], tmp_path / "out.csv", request)
    assumed = [note for note in result.notes if "state their names" in note]
    assert len(assumed) == is_assumed
    assert all("VH, VV" in note and "--bands VV,VH" in note for note in assumed)


def test_existing_output_is_refused_before_any_work(bundle, tmp_path):
    (tmp_path / "out.csv").touch()
    with pytest.raises(RequestError, match="--overwrite"):
        predict(bundle, [tmp_path / "absent"], tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PredictionRequest(html_path=Path("page.txt")), ".html"),
        (
            PredictionRequest(chips_dir=Path("cut")),
            "--chips needs scenes",
        ),
        (
            PredictionRequest(
                query=Query(grid=8), chip_options=ChipOptions(spacing=3.0)
            ),
            "no such scene",
        ),
    ],
)
def test_refused_before_any_work(bundle, tmp_path, request_, message):
    with pytest.raises((RequestError, DataError), match=message):
        predict(bundle, [tmp_path / "absent.tif"], tmp_path / "out.csv", request_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [{"at": Path("x"), "grid": 3}, {"stride": 3}, {"crs": "EPSG:4326"}, {"layer": "a"}],
)
def test_incompatible_options(options):
    with pytest.raises(RequestError, match=r"together|needs"):
        Query(**options)


def test_batches_and_readers_do_not_change_the_result(bundle, chips, tmp_path):
    calls: list[tuple[int, int, str]] = []
    one = predict(
        bundle, [chips], tmp_path / "a.csv", PredictionRequest(batch_size=1, readers=3)
    )
    request = PredictionRequest(batch_size=2)
    both = predict(
        bundle, [chips], tmp_path / "b.csv", request, lambda *step: calls.append(step)
    )
    pd.testing.assert_frame_equal(one.table, both.table)
    assert calls == [(2, 3, "classifying"), (3, 3, "classifying")]


def test_engines_that_take_two_callers(bundle, chips, tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=30)

    def engine(inputs):
        both.wait()  # returns once two threads have called it
        return brightness_logits(inputs)

    use_toy_model(monkeypatch, infer=engine, concurrency=2)
    (chips / "c_gray_as_rgb.png").unlink()
    table = predict(
        bundle, [chips], tmp_path / "out.csv", PredictionRequest(batch_size=1)
    ).table
    assert table["class"].tolist() == ["dark", "bright"]


def test_diverged_model(bundle, chips, tmp_path, monkeypatch):
    outputs = ClassifierOutputs(
        np.full((3, 2), np.nan, np.float32), np.zeros((3, 1), np.float32)
    )
    use_toy_model(monkeypatch, infer=lambda inputs: outputs)
    with pytest.raises(WeightsError, match="not finite"):
        predict(bundle, [chips], tmp_path / "out.csv")


def test_name_that_is_not_utf8(bundle, chips, tmp_path):
    odd = chips / os.fsdecode(b"caf\xe9.png")
    (chips / "a_dark.png").rename(odd)
    result = predict(bundle, [odd], tmp_path / "out.gpkg")
    assert result.table["chip"].tolist() == ["caf\\udce9.png"]


def test_scene_given_as_a_chip(bundle, tmp_path):
    write_geotiff(tmp_path / "s.tif", np.zeros((10, 9000), np.uint8))
    with pytest.raises(DataError, match=mentions("10 x 9,000", "not a chip", "--at")):
        predict(bundle, [tmp_path / "s.tif"], tmp_path / "out.csv")


def test_class_sets_of_foreign_chips_are_withheld(bundle, tmp_path, monkeypatch):
    use_toy_model(monkeypatch, toy_bundle(calibrator=brightness_calibrator()))
    folder = tmp_path / "gray"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        cv2.imwrite(
            str(folder / f"{number:02}.png"), rng.integers(120, 135, (16, 16), np.uint8)
        )
    out = tmp_path / "out.gpkg"
    page = tmp_path / "page.html"
    result = predict(bundle, [folder], out, PredictionRequest(html_path=page))
    assert result.table["class_set"].isna().all() and result.table["ood"].all()
    assert result.notes[-1].startswith(
        "12 of 12 chips are unlike the training chips (5% are expected, up to"
    )
    assert result.notes[-1].endswith("by chance); do not trust their classes")
    assert (
        "class sets withheld for 12 chips: most of these chips are unlike the training"
        " chips" in result.notes
    )
    assert result.notes[-1] in page.read_text()
    stored = pyogrio.read_dataframe(out, layer="predictions")
    assert "class_set" in stored and stored["class_set"].isna().all()
    metadata = read_geopackage_metadata(out)
    assert int(metadata["ood"]) == int(metadata["withheld"]) == 12 and result.notes[
        -1
    ] in str(metadata["notes"])
    (check,) = result.checks
    assert (check.chips, check.class_sets, check.test.shifted[0]) == (
        12,
        "withheld",
        "distance",
    )
