"""Archives: scenes that are classified, that fail, and that are skipped."""

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest

from rsft.errors import RequestError
from rsft.inference import archive
from rsft.inference.archive import (
    classify_scene,
    classify_scenes,
    open_archive_executor,
    predict_archive,
)
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import job
from rsft.inference.scene_table import SceneResult
from rsft.inference.writers.geopackage import read_geopackage_metadata
from rsft.scenes.query import Query
from rsft.utils.executor import TaskLostError
from tests.helpers.file_server import serving_folder
from tests.helpers.files import written
from tests.helpers.scenes import (
    UTM,
    brightness_calibrator,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tests.helpers.simulated_archive import run_simulated, write_scenes

TILES = PredictionRequest(query=Query(grid=16))


@pytest.fixture(autouse=True)
def model(monkeypatch):
    """Use a toy bundle and a toy engine."""
    use_toy_model(monkeypatch)
    monkeypatch.setattr(archive, "choose_engine", lambda *_: "torch")
    monkeypatch.setattr(archive, "load_engine", lambda *_: None)
    # so that the test does not wait
    monkeypatch.setattr(archive, "_PAUSE", 0)


@pytest.fixture
def scenes(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "abc":
        pixels = rng.integers(1, 255, (32, 48), np.uint8)
        write_geotiff(
            tmp_path / f"in/{name}.tif", pixels, crs="EPSG:32633", transform=UTM
        )
    return tmp_path / "in"


class InThisProcess:
    """Classifies scenes in this process.

    Args:
        run: called with the number of the scene, the function and its arguments.
    """

    jobs = 2

    def __init__(self, run=lambda number, work, *arguments: work(*arguments)):
        self.run = run
        self.count = 0

    def submit(self, work, *arguments):
        future = Future()
        try:
            future.set_result(self.run(self.count, work, *arguments))
        except TaskLostError as error:
            future.set_exception(error)
        self.count += 1
        return future


def refuse(number, *_):
    pytest.fail("a scene is classified again")


def run_archive(tmp_path, *inputs, request=TILES, executor=None, **options):
    return predict_archive(
        Path("bundle"),
        inputs,
        tmp_path / "out",
        request,
        executor or InThisProcess(),
        **options,
    )


def count_openings(monkeypatch):
    """Return a list to which each GeoPackage is added whose metadata are read."""
    opened = []
    real = archive.read_geopackage_metadata

    def read(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(archive, "read_geopackage_metadata", read)
    return opened


def test_finished_scenes_are_found_without_opening_their_outputs(
    scenes, tmp_path, monkeypatch
):
    run_archive(tmp_path, scenes / "[ab].tif")
    opened = count_openings(monkeypatch)
    nobody = InThisProcess(refuse)
    for _ in range(2):
        result = run_archive(tmp_path, scenes / "[ab].tif", executor=nobody)
        assert result.counts == {"skipped": 2} and opened == []
    os.utime(tmp_path / "out/a.gpkg", ns=(1, 1))
    (tmp_path / "out/b.gpkg").unlink()
    result = run_archive(tmp_path, scenes / "[ab].tif")
    assert [scene.status for scene in result.scenes] == ["skipped", "done"]
    assert opened[0] == "a.gpkg" and set(opened[1:]) == {"b.gpkg"}


def test_an_output_that_another_command_replaced_is_noticed(scenes, tmp_path):
    run_archive(tmp_path, scenes / "a.tif")
    row = (tmp_path / "out/scenes.csv").read_bytes()
    other = PredictionRequest(query=Query(grid=8), overwrite=True)
    run_archive(tmp_path, scenes / "a.tif", request=other)
    (tmp_path / "out/scenes.csv").write_bytes(row)
    result = run_archive(tmp_path, scenes / "a.tif")
    assert result.counts == {"failed": 1}


def test_a_table_of_an_earlier_version_is_written_anew(scenes, tmp_path):
    run_archive(tmp_path, scenes / "a.tif")
    path = tmp_path / "out/scenes.csv"
    pd.read_csv(path).drop(columns="modified").to_csv(path, index=False)
    nobody = InThisProcess(refuse)
    result = run_archive(tmp_path, scenes / "a.tif", executor=nobody)
    assert result.counts == {"skipped": 1} and "modified" in pd.read_csv(path)


def test_a_block_that_is_lost_is_run_scene_by_scene(scenes, tmp_path, monkeypatch):
    """A scene that crashes its process does not stop the others of its block."""
    blocks = []

    def crash(number, work, planned, *arguments):
        names = [Path(scene.scene).name for scene in planned]
        blocks.append(names)
        if "b.tif" in names:
            raise TaskLostError("its process was killed")
        return work(planned, *arguments)

    monkeypatch.setattr(archive, "BLOCKS_PER_JOB", 0.5)
    result = run_archive(tmp_path, scenes / "*.tif", executor=InThisProcess(crash))
    assert blocks[0] == ["a.tif", "b.tif", "c.tif"]
    assert sorted(blocks[1:]) == [["a.tif"], ["b.tif"], ["c.tif"]]
    assert [scene.status for scene in result.scenes] == ["done", "failed", "done"]


def test_large_scenes_are_tasks_of_their_own(scenes, tmp_path, monkeypatch):
    blocks = []

    def run(number, work, planned, *arguments):
        blocks.append(len(planned))
        return work(planned, *arguments)

    monkeypatch.setattr(archive, "BLOCKS_PER_JOB", 0.5)
    size = (scenes / "a.tif").stat().st_size
    monkeypatch.setattr(archive, "BLOCK_BYTES", 2 * size)
    run_archive(tmp_path, scenes / "*.tif", executor=InThisProcess(run))
    assert blocks == [2, 1]


def test_many_scenes_have_outputs_in_subfolders(scenes, tmp_path, monkeypatch):
    run_archive(tmp_path, scenes / "a.tif")
    monkeypatch.setattr(archive, "FLAT_SCENES", 2)
    many = run_archive(tmp_path, scenes / "*.tif")
    outputs = [Path(scene.output).relative_to(tmp_path) for scene in many.scenes]
    assert many.counts == {"skipped": 1, "done": 2}
    assert outputs[0] == Path("out/a.gpkg")
    assert [len(path.parts) for path in outputs[1:]] == [3, 3]
    assert all((tmp_path / path).is_file() for path in outputs)
    nobody = InThisProcess(refuse)
    few = run_archive(tmp_path, scenes / "[bc].tif", executor=nobody)
    assert few.counts == {"skipped": 2}


def test_few_tasks_are_in_the_executor(tmp_path):
    write_scenes(tmp_path, 20_000)
    result, executor, opened = run_simulated(tmp_path, writes_outputs=False)
    assert result.counts == {"done": 20_000} and opened == []
    assert sum(executor.blocks) == 20_000 and max(executor.blocks) == 100
    assert executor.most <= 2 * executor.jobs
    stems = [Path(scene.scene).stem for scene in result.scenes]
    assert stems == [f"{index:05}" for index in range(20_000)]
    folders = Counter(Path(scene.output).parent for scene in result.scenes)
    assert len(folders) == 1000 and max(folders.values()) < 50


def test_a_killed_archive_continues(tmp_path):
    """Every scene is classified once, and the index spares opening outputs."""
    count = 5000
    write_scenes(tmp_path, count)
    command = [sys.executable, "-m", "tests.helpers.simulated_archive", tmp_path]
    table = tmp_path / "out/scenes.csv"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment) as driver:
        while not (table.exists() and table.stat().st_size > 100_000):
            assert driver.poll() is None
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    rows = len(pd.read_csv(table))
    assert 0 < rows < count
    with table.open("ab") as file:
        file.write(b"/in/torn.tif,do")
    result, executor, opened = run_simulated(tmp_path)
    done = sum(executor.blocks)
    assert result.counts == {"done": done, "skipped": count - done}
    assert len(opened) == count - done - rows
    assert len(opened) <= 2 * executor.jobs * archive.BLOCK_SCENES
    classified = (tmp_path / "classified.txt").read_text().split()
    assert len(set(classified)) == len(classified) >= count - executor.jobs
    result, executor, opened = run_simulated(tmp_path)
    assert result.counts == {"skipped": count}
    assert executor.blocks == [] and opened == []


def scenes_of(result):
    return list(result.scenes)


def table(tmp_path):
    with (tmp_path / "out/scenes.csv").open(newline="") as file:
        return [
            (Path(row["scene"]).name, row["status"], int(row["chips"]))
            for row in csv.DictReader(file)
        ]


def test_each_scene_has_one_output(scenes, tmp_path):
    calls = []
    result = run_archive(
        tmp_path, scenes / "*.tif", progress=lambda *step: calls.append(step)
    )
    # the others finished within a second
    assert result.counts == {"done": 3} and calls[0] == (1, 3, "scenes")
    assert calls[-1] == (3, 3, "scenes")
    assert table(tmp_path) == [
        ("a.tif", "done", 6),
        ("b.tif", "done", 6),
        ("c.tif", "done", 6),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.gpkg",
        "b.gpkg",
        "c.gpkg",
        "scenes.csv",
    ]
    assert set(
        pyogrio.read_dataframe(tmp_path / "out/b.gpkg", layer="predictions")["scene"]
    ) == {"b.tif"}


def test_scenes_unlike_the_training_chips_are_counted(scenes, tmp_path, monkeypatch):
    use_toy_model(monkeypatch, toy_bundle(calibrator=brightness_calibrator()))
    for status in ("done", "skipped"):
        (result,) = run_archive(tmp_path, scenes / "a.tif").scenes
        assert (result.status, result.chips, result.ood, result.class_sets) == (
            status,
            6,
            6,
            "withheld",
        )
    with (tmp_path / "out/scenes.csv").open(newline="") as file:
        assert [(row["ood"], row["class_sets"]) for row in csv.DictReader(file)] == [
            ("6", "withheld")
        ]


def test_a_second_call_skips_finished_scenes(scenes, tmp_path):
    run_archive(tmp_path, scenes / "a.tif")
    before = (tmp_path / "out/a.gpkg").read_bytes()
    text = f"# the archive\n{scenes}/a.tif\n\n{scenes}/[bc].tif\n{scenes}/a.tif\n"
    result = run_archive(tmp_path, Path(f"@{written(tmp_path / 'list.txt', text)}"))
    assert (
        result.counts == {"skipped": 1, "done": 2}
        and (tmp_path / "out/a.gpkg").read_bytes() == before
    )
    assert table(tmp_path)[0] == ("a.tif", "skipped", 6)
    again = run_archive(
        tmp_path,
        scenes / "*.tif",
        executor=InThisProcess(refuse),
    )
    assert again.counts == {"skipped": 3}


def test_paths_may_be_given_from_another_folder(scenes, tmp_path, monkeypatch):
    at = written(tmp_path / "at.csv", "row,col\n16,16\n")
    request = PredictionRequest(query=Query(at=Path("at.csv")))
    monkeypatch.chdir(tmp_path)
    use_toy_model(monkeypatch, toy_bundle(contract=toy_contract(crop=8)))
    assert predict_archive(
        Path("b"), [Path("in/a.tif")], Path("out"), request, InThisProcess()
    ).counts == {"done": 1}
    monkeypatch.chdir(scenes)
    request = PredictionRequest(query=Query(at=at))
    again = predict_archive(
        Path("b"), [Path("a.tif").resolve()], Path("../out"), request, InThisProcess()
    )
    assert again.counts == {"skipped": 1}


def test_a_scene_without_positions_is_done(scenes, tmp_path, monkeypatch):
    """One file of positions covers many scenes."""
    use_toy_model(monkeypatch, toy_bundle(contract=toy_contract(crop=8)))
    request = PredictionRequest(
        query=Query(at=written(tmp_path / "at.csv", "row,col\n1600,16\n"))
    )
    result = run_archive(tmp_path, scenes / "a.tif", request=request)
    assert result.counts == {"done": 1} and scenes_of(result)[0].chips == 0


@pytest.mark.parametrize("change", ["request", "bundle", "scene", "file"])
def test_an_output_of_another_job_is_not_overwritten_unasked(
    scenes, tmp_path, monkeypatch, change
):
    run_archive(tmp_path, scenes / "a.tif")
    request = PredictionRequest(query=Query(grid=8)) if change == "request" else TILES
    if change == "bundle":
        monkeypatch.setattr(
            archive.Bundle, "load", lambda folder: toy_bundle(sha256="1" * 64)
        )
    elif change == "scene":
        write_geotiff(
            scenes / "a.tif",
            np.full((16, 16), 7, np.uint8) + np.eye(16, dtype=np.uint8),
        )
    elif change == "file":
        (tmp_path / "out/a.gpkg").write_text("a letter")
    before = (tmp_path / "out/a.gpkg").read_bytes()
    result = run_archive(tmp_path, scenes / "a.tif", request=request)
    assert (
        result.counts == {"failed": 1} and "--overwrite" in scenes_of(result)[0].reason
    )
    assert (tmp_path / "out/a.gpkg").read_bytes() == before
    again = replace(request, overwrite=True)
    assert run_archive(tmp_path, scenes / "a.tif", request=again).counts == {"done": 1}
    assert run_archive(tmp_path, scenes / "a.tif", request=again).counts == {
        "skipped": 1
    }


def test_a_failed_scene_does_not_stop_others(scenes, tmp_path):
    (scenes / "b.tif").write_text("no image")
    result = run_archive(
        tmp_path,
        scenes / "a.tif",
        scenes / "b.tif",
        scenes / "absent.tif",
        scenes / "c.tif",
    )
    assert [outcome.status for outcome in result.scenes] == [
        "done",
        "failed",
        "failed",
        "done",
    ]
    assert "GDAL cannot read the scene" in scenes_of(result)[1].reason
    assert "no such scene" in scenes_of(result)[2].reason
    assert not (tmp_path / "out/b.gpkg").exists()


def test_a_scene_without_chips_has_an_empty_table(scenes, tmp_path):
    write_geotiff(
        scenes / "b.tif", np.zeros((32, 48), np.uint8), crs="EPSG:32633", transform=UTM
    )
    assert run_archive(tmp_path, scenes / "b.tif").counts == {"done": 1}
    frame = pyogrio.read_dataframe(tmp_path / "out/b.gpkg", layer="predictions")
    assert len(frame) == 0 and "class" in frame
    assert (
        "tiles without data were left out: 6"
        in read_geopackage_metadata(tmp_path / "out/b.gpkg")["notes"]
    )
    assert run_archive(tmp_path, scenes / "b.tif").counts == {"skipped": 1}


@pytest.mark.parametrize(("faults", "status"), [(2, "done"), (3, "failed")])
def test_a_disk_error_leads_to_another_attempt(
    scenes, tmp_path, monkeypatch, faults, status
):
    real = archive.predict
    left = [faults]

    def shaky(*arguments, **options):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("no\nanswer")
        return real(*arguments, **options)

    monkeypatch.setattr(archive, "predict", shaky)
    (outcome,) = run_archive(tmp_path, scenes / "a.tif").scenes
    assert outcome.status == status and outcome.reason == (
        "" if status == "done" else "OSError: no answer"
    )


def test_a_lost_scene_has_failed(scenes, tmp_path):
    def lose_second(number, work, *arguments):
        if number >= 1:
            raise TaskLostError("its process was killed")
        return work(*arguments)

    executor = InThisProcess(lose_second)
    result = run_archive(
        tmp_path, scenes / "a.tif", scenes / "b.tif", executor=executor
    )
    assert result.counts == {"done": 1, "failed": 1}
    assert scenes_of(result)[1].reason == "its process was killed (twice)"


def test_an_interrupted_call_writes_its_summary(scenes, tmp_path):
    def stop(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_archive(tmp_path, scenes / "*.tif", progress=stop)
    statuses = [status for _, status, _ in table(tmp_path)]
    assert sorted(statuses) == ["done", "pending", "pending"]


@pytest.mark.slow
def test_scenes_in_processes(scenes, tmp_path, monkeypatch):
    """Real processes have no toy model, so each of their jobs fails for its bundle."""
    with open_archive_executor("cpu", jobs=2) as executor:
        result = run_archive(
            tmp_path, scenes / "a.tif", scenes / "b.tif", executor=executor
        )
    assert result.counts == {"failed": 2}
    assert all("bundle" in scene.reason for scene in result.scenes)


def test_scenes_of_a_task_share_a_bundle_and_its_engine(scenes, tmp_path, monkeypatch):
    calls = []
    for owner, name in ((job, "load_engine"), (job.Bundle, "load")):
        real = getattr(owner, name)
        count = partial(lambda call, name, *x: (calls.append(name), call(*x))[1], real)
        monkeypatch.setattr(owner, name, partial(count, name))
    planned = [
        SceneResult(str(path), "pending", output=str(tmp_path / f"{path.stem}.gpkg"))
        for path in sorted(scenes.iterdir())
    ]
    classify_scenes(planned, Path("bundle"), TILES)
    assert len(planned) == 3 and sorted(calls) == ["load", "load_engine"]
    for scene in planned:
        output = tmp_path / f"{Path(scene.scene).stem}.csv"
        job.predict(Path("bundle"), [scene.scene], output, TILES)
    assert len(calls) == 8  # a single job keeps no weights


def test_the_output_of_a_killed_process_is_used(scenes, tmp_path):
    (outcome,) = run_archive(tmp_path, scenes / "a.tif").scenes
    (tmp_path / "out/.a.gpkg.journal").touch()
    left = SceneResult(outcome.scene, "pending", output=outcome.output, job=outcome.job)
    assert classify_scene(left, None, TILES) == left._replace(
        status="done", chips=6, modified=outcome.modified
    )
    assert not (tmp_path / "out/.a.gpkg.journal").exists()


@pytest.mark.parametrize(
    ("request_", "names", "message"),
    [
        (PredictionRequest(), ["a"], "say where to cut chips"),
        (
            replace(TILES, html_path=Path("x.html")),
            ["a"],
            "for one job, not for an archive",
        ),
        (TILES, ["a", "other/a"], "1 names belong to several scenes, such as a"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(
    scenes, tmp_path, request_, names, message
):
    with pytest.raises(RequestError, match=message):
        run_archive(
            tmp_path, *(scenes / f"{name}.tif" for name in names), request=request_
        )
    assert not (tmp_path / "out").exists()


def test_other_files_have_no_metadata(tmp_path):
    assert (
        read_geopackage_metadata(tmp_path / "absent.gpkg") == {}
        and not (tmp_path / "absent.gpkg").exists()
    )
    (tmp_path / "odd # ?.gpkg").write_text("no database")
    assert read_geopackage_metadata(tmp_path / "odd # ?.gpkg") == {}
    with sqlite3.connect(tmp_path / "other.gpkg") as database:
        database.execute("CREATE TABLE x (y)")
    assert read_geopackage_metadata(tmp_path / "other.gpkg") == {}


def test_scenes_on_a_server(scenes, tmp_path):
    with serving_folder(scenes) as server:
        server.query = "sig=1"
        addresses = [server.url(name) for name in ("a.tif?sig=1", "absent.tif?sig=1")]
        result = run_archive(
            tmp_path, *addresses, "http://127.0.0.1:9/c.tif", scenes / "b.tif"
        )
        outcomes = scenes_of(result)
        assert run_archive(tmp_path, addresses[0]).counts == {"skipped": 1}
    assert [outcome.status for outcome in outcomes] == [
        "done",
        "failed",
        "failed",
        "done",
    ]
    assert (
        outcomes[0].scene == server.url("a.tif")
        and Path(outcomes[0].output).name == "a.gpkg"
    )
    assert "127.0.0.1 answered 404 Not Found" in outcomes[1].reason
    assert "Connection refused" in outcomes[2].reason
    assert "sig" not in (tmp_path / "out/scenes.csv").read_text()
