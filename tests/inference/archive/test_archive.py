"""Scenes one by one, without Ray: what is done, what fails, what is skipped."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from rsft.errors import RequestError
from rsft.inference.archive import archive
from rsft.inference.archive.archive import Outcome, classify_scene, predict_archive
from rsft.inference.predict import job
from rsft.inference.predict.request import Request
from rsft.inference.predict.scene_plan import Look
from rsft.inference.writers.geopackage import read_metadata
from tests.helpers.scenes import UTM, brightness, chosen, write
from tests.helpers.scenes import bundle as made

TILES = Request(look=Look(grid=16))


@pytest.fixture(autouse=True)
def model(monkeypatch):
    """A toy instead of a bundle; returns the list of scenes that were given to processes."""
    monkeypatch.setattr(archive.Bundle, "load", lambda folder: made())
    monkeypatch.setattr(archive, "torch_engine", lambda *_: None)
    monkeypatch.setattr(job, "choose_engine", lambda bundle, *_: chosen(brightness, bundle))
    monkeypatch.setattr(archive, "_PAUSE", 0)


@pytest.fixture
def scenes(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "abc":
        pixels = rng.integers(1, 255, (32, 48), np.uint8)
        write(tmp_path / f"in/{name}.tif", pixels, crs="EPSG:32633", transform=UTM)
    return tmp_path / "in"


def here(scenes, bundle_dir, request):
    """In this process, the last first."""
    for scene in reversed(scenes):
        yield classify_scene(scene, bundle_dir, request)


def call(tmp_path, *inputs, request=TILES, spread=here):
    return predict_archive(Path("bundle"), inputs, tmp_path / "out", request, spread)


def table(tmp_path):
    with (tmp_path / "out/scenes.csv").open(newline="") as file:
        return [(Path(row["scene"]).name, row["status"], int(row["chips"])) for row in csv.DictReader(file)]


def test_one_output_a_scene(scenes, tmp_path):
    told = []
    found = predict_archive(
        Path("bundle"), [scenes / "*.tif"], tmp_path / "out", TILES, here, lambda *step: told.append(step)
    )
    assert found.counts == {"done": 3} and told == [(n, 3, "scenes") for n in (1, 2, 3)]
    assert table(tmp_path) == [("a.tif", "done", 6), ("b.tif", "done", 6), ("c.tif", "done", 6)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.gpkg", "b.gpkg", "c.gpkg", "scenes.csv"]
    assert set(pyogrio.read_dataframe(tmp_path / "out/b.gpkg", layer="predictions")["scene"]) == {"b.tif"}


def test_the_second_call_does_what_is_left(scenes, tmp_path):
    call(tmp_path, scenes / "a.tif")
    before = (tmp_path / "out/a.gpkg").read_bytes()
    (tmp_path / "list.txt").write_text(f"# the archive\n{scenes}/a.tif\n\n{scenes}/[bc].tif\n{scenes}/a.tif\n")
    found = call(tmp_path, Path(f"@{tmp_path / 'list.txt'}"))
    assert found.counts == {"skipped": 1, "done": 2} and (tmp_path / "out/a.gpkg").read_bytes() == before
    assert table(tmp_path)[0] == ("a.tif", "skipped", 6)

    def never(*_):
        raise AssertionError

    assert call(tmp_path, scenes / "*.tif", spread=never).counts == {"skipped": 3}


def test_from_another_folder(scenes, tmp_path, monkeypatch):
    (tmp_path / "at.csv").write_text("row,col\n16,16\n")
    request = Request(look=Look(at=Path("at.csv")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        archive.Bundle, "load", lambda folder: made(contract=made().contract.model_copy(update={"crop": 8}))
    )
    assert predict_archive(Path("b"), [Path("in/a.tif")], Path("out"), request, here).counts == {"done": 1}
    monkeypatch.chdir(scenes)
    request = Request(look=Look(at=Path("../at.csv").resolve()))
    assert predict_archive(Path("b"), [Path("a.tif").resolve()], Path("../out"), request, here).counts == {"skipped": 1}


@pytest.mark.parametrize("change", ["request", "bundle", "scene", "file"])
def test_an_output_of_another_job_is_kept_until_told(scenes, tmp_path, monkeypatch, change):
    call(tmp_path, scenes / "a.tif")
    request = TILES
    if change == "request":
        request = Request(look=Look(grid=8))
    elif change == "bundle":
        monkeypatch.setattr(archive.Bundle, "load", lambda folder: made(sha256="1" * 64))
    elif change == "scene":
        write(scenes / "a.tif", np.full((16, 16), 7, np.uint8) + np.eye(16, dtype=np.uint8))
    else:
        (tmp_path / "out/a.gpkg").write_text("a letter")
    before = (tmp_path / "out/a.gpkg").read_bytes()
    found = call(tmp_path, scenes / "a.tif", request=request)
    assert found.counts == {"failed": 1} and "--overwrite" in found.outcomes[0].reason
    assert (tmp_path / "out/a.gpkg").read_bytes() == before
    again = Request(look=request.look, overwrite=True)
    assert call(tmp_path, scenes / "a.tif", request=again).counts == {"done": 1}
    assert call(tmp_path, scenes / "a.tif", request=again).counts == {"skipped": 1}


def test_what_fails_does_not_stop_the_rest(scenes, tmp_path):
    (scenes / "b.tif").write_text("no image")
    found = call(tmp_path, scenes / "a.tif", scenes / "b.tif", scenes / "absent.tif", scenes / "c.tif")
    assert [outcome.status for outcome in found.outcomes] == ["done", "failed", "failed", "done"]
    assert "GDAL cannot read the scene" in found.outcomes[1].reason
    assert "there is no such scene" in found.outcomes[2].reason
    assert not (tmp_path / "out/b.gpkg").exists()


def test_nothing_in_a_scene_is_an_answer(scenes, tmp_path):
    write(scenes / "b.tif", np.zeros((32, 48), np.uint8), crs="EPSG:32633", transform=UTM)
    assert call(tmp_path, scenes / "b.tif").counts == {"done": 1}
    frame = pyogrio.read_dataframe(tmp_path / "out/b.gpkg", layer="predictions")
    assert len(frame) == 0 and "class" in frame
    assert "tiles without data, left out: 6" in read_metadata(tmp_path / "out/b.gpkg")["notes"]
    assert call(tmp_path, scenes / "b.tif").counts == {"skipped": 1}


@pytest.mark.parametrize(("faults", "status"), [(2, "done"), (3, "failed")])
def test_a_disk_that_does_not_answer_is_asked_again(scenes, tmp_path, monkeypatch, faults, status):
    real, left = archive.predict, [faults]

    def shaky(*arguments):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("no\nanswer")
        return real(*arguments)

    monkeypatch.setattr(archive, "predict", shaky)
    (outcome,) = call(tmp_path, scenes / "a.tif").outcomes
    assert outcome.status == status and outcome.reason == ("" if status == "done" else "OSError: no answer")


def test_a_scene_that_is_lost(scenes, tmp_path):
    def lossy(scenes, bundle_dir, request):
        yield classify_scene(scenes[0], bundle_dir, request)

    found = call(tmp_path, scenes / "a.tif", scenes / "b.tif", spread=lossy)
    assert found.counts == {"done": 1, "failed": 1} and "was killed 3 times" in found.outcomes[1].reason


def test_stopped_in_the_middle(scenes, tmp_path):
    def stopped(scenes, bundle_dir, request):
        yield classify_scene(scenes[0], bundle_dir, request)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, scenes / "*.tif", spread=stopped)
    assert table(tmp_path) == [("a.tif", "done", 6), ("b.tif", "left", 0), ("c.tif", "left", 0)]


def test_a_process_that_was_killed_after_the_last_byte(scenes, tmp_path):
    (outcome,) = call(tmp_path, scenes / "a.tif").outcomes
    (tmp_path / "out/.a.gpkg.journal").touch()
    left = Outcome(outcome.scene, "left", output=outcome.output, job=outcome.job)
    assert classify_scene(left, Path("bundle"), TILES) == Outcome(**(vars(left) | {"status": "done", "chips": 6}))
    assert not (tmp_path / "out/.a.gpkg.journal").exists()


@pytest.mark.parametrize(
    ("request_", "names", "told"),
    [
        (Request(), ["a"], "say where to look"),
        (Request(look=Look(grid=8), html=Path("x.html")), ["a"], "no page of a whole archive"),
        (TILES, ["a", "other/a"], "1 names are those of several scenes, such as a"),
    ],
)
def test_refused_before_the_work(scenes, tmp_path, request_, names, told):
    with pytest.raises(RequestError, match=told):
        call(tmp_path, *(scenes / f"{name}.tif" for name in names), request=request_)
    assert not (tmp_path / "out").exists()


def test_metadata_of_what_is_no_output(tmp_path):
    assert read_metadata(tmp_path / "absent.gpkg") == {} and not (tmp_path / "absent.gpkg").exists()
    (tmp_path / "odd # ?.gpkg").write_text("no database")
    assert read_metadata(tmp_path / "odd # ?.gpkg") == {}
    with sqlite3.connect(tmp_path / "other.gpkg") as database:
        database.execute("CREATE TABLE x (y)")
    assert read_metadata(tmp_path / "other.gpkg") == {}
