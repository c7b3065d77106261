"""Classify an archive in processes and on Ray, and kill a process."""

import csv
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from tests.helpers.scenes import UTM, write_geotiff

NAMES = ("a", "b")


@pytest.fixture
def archive(run, tmp_path):
    """Write two scenes of 441 tiles and a text file; return the folder and the command
    that classifies them."""
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(1, 255, (192, 192), np.uint8)
        write_geotiff(
            tmp_path / f"in/{name}.tif", pixels, crs="EPSG:32633", transform=UTM
        )
    (tmp_path / "in/d.tif").write_text("no image")
    command = [
        "predict",
        run,
        "in/*.tif",
        "-o",
        "out",
        "--grid",
        "32",
        "--stride",
        "8",
        "--batch-size",
        "4",
    ]
    return tmp_path, [sys.executable, "-m", "rsft", *map(str, command)]


def process_that_holds(path):
    """Return the process that has a file open."""
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if handle.resolve() == path and handle.parts[2] != str(os.getpid()):
                return int(handle.parts[2])
        except OSError:  # the process has ended
            continue
    return None


def count_batches(journal):
    """Estimate the number of batches in a journal that another process holds."""
    return journal.stat().st_size // 4096 if journal.exists() else 0


def summary(folder):
    with (folder / "out/scenes.csv").open(newline="") as file:
        return {Path(row["scene"]).stem: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_killed_worker(archive):
    folder, command = archive
    journals = {name: folder / f"out/.{name}.gpkg.journal" for name in NAMES}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        victim = None
        while driver.poll() is None and victim is None:
            advanced = [
                name
                for name, journal in journals.items()
                if count_batches(journal) > 20
            ]
            victim = next(
                (
                    (name, pid)
                    for name in advanced
                    if (pid := process_that_holds(journals[name]))
                ),
                None,
            )
            time.sleep(0.02)
        assert victim is not None, driver.communicate()[0]
        os.kill(victim[1], signal.SIGKILL)
        printed, _ = driver.communicate()
    assert driver.returncode == 0, printed
    assert (
        re.search(r"882 +classified", printed)
        and "GDAL cannot read the scene" in printed
    )
    rows = summary(folder)
    assert {name: rows[name]["status"] for name in rows} == {
        **dict.fromkeys(NAMES, "done"),
        "d": "failed",
    }
    assert [name for name in NAMES if rows[name]["resumed"] == "True"] == [victim[0]]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.gpkg",
        "b.gpkg",
        "scenes.csv",
    ]
    for name in NAMES:
        frame = pyogrio.read_dataframe(folder / f"out/{name}.gpkg", layer="predictions")
        assert len(frame) == 441 and not frame.duplicated(["row", "col"]).any()
    (folder / "in/d.tif").unlink()
    again = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    )
    printed = " ".join(again.stdout.split())  # wherever the lines are broken
    assert "scenes 2 skipped" in printed


@pytest.mark.slow
def test_ray_starts_in_a_home_without_its_folder(archive, tmp_path_factory):
    pytest.importorskip("ray")
    folder, command = archive
    command[command.index("--stride") + 1] = "32"
    home = tmp_path_factory.mktemp("home")
    (folder / "in/d.tif").unlink()
    ended = subprocess.run(
        [*command, "--ray"],
        cwd=folder,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"chips +72 +classified", ended.stdout)
    assert {row["status"] for row in summary(folder).values()} == {"done"}
    assert (home / ".ray").is_dir()


@pytest.mark.slow
def test_options_of_an_output_folder(rsft, run, tmp_path):
    (tmp_path / "x.tif").touch()
    words = ("predict", run, "x.tif", "-o")
    code, printed = rsft(*words, "x.csv", "--grid", "32", "--ray")
    assert code == 2 and "give -o FOLDER" in printed
    code, printed = rsft(*words, "out")
    assert code == 2 and "say where to cut chips" in printed


def test_finished_archive_does_not_start_ray(rsft, run, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tmp_path / "out/x.gpkg") as database:
        database.execute("CREATE TABLE y (z)")
    (tmp_path / "x.tif").touch()
    code, printed = rsft("predict", run, "x.tif", "-o", "out", "--grid", "32")
    assert code == 1 and "1  failed" in printed and "--overwrite" in printed


@pytest.mark.slow
def test_a_failed_scene_among_others_is_an_error_if_strict(rsft, run, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (64, 64), np.uint8)
    write_geotiff(tmp_path / "a.tif", pixels, crs="EPSG:32633", transform=UTM)
    (tmp_path / "b.tif").write_text("no image")
    words = ("predict", run, "a.tif", "b.tif", "-o", "out", "--grid", "32")
    code, printed = rsft(*words)
    assert code == 0 and "1  done" in printed and "1  failed" in printed
    assert rsft(*words, "--strict")[0] == 1
