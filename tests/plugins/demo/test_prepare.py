"""The demonstration data: counts, splits without shared scenes, skipped chips."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rsft.data.chips import builder
from rsft.errors import RequestError
from rsft.plugins.demo import archives, scene
from rsft.plugins.demo.prepare import DEMO_CLASSES, prepare_demo, prepare_demo_scene
from tests.helpers.killing import kill_at_call, run_until_killed

pytestmark = pytest.mark.slow

COUNTS = {"train": {"cargo": 6, "fishing": 3, "tanker": 2, "dredger": 1}} | {
    split: dict.fromkeys(DEMO_CLASSES, 1) for split in ("val", "test")
}


@pytest.fixture(scope="module", autouse=True)
def _small_images():
    """Half the side: the numbers of ships and chips do not depend on it, and the
    simulation takes a quarter."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "_SRSDD_SIDE": 512,
            "_RENDERED": 704,
            "_SHAPE": (440, 672),
        }.items():
            module = archives if name == "_SRSDD_SIDE" else scene
            patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return prepare_demo(
        tmp_path_factory.mktemp("data") / "demo", counts=COUNTS, scenes=4
    )


@pytest.mark.exhaustive
def test_counts_are_met_from_both_archives(demo):
    for split, counts in COUNTS.items():
        assert demo.class_counts(split).tolist() == [
            counts[name] for name in DEMO_CLASSES
        ]
    assert set(demo.table["source"]) == {"simulated FUSAR-Ship", "simulated SRSDD"}
    assert demo.groups == {
        "head": ["cargo", "fishing"],
        "medium": [],
        "tail": ["tanker", "dredger"],
    }
    assert demo.license == "MIT" and [
        path.name for path in demo.root.parent.iterdir()
    ] == ["demo"]


def test_chips_have_both_units_one_band_and_metadata(demo):
    assert (
        demo.bands == ("HH",)
        and demo.units == ("uint16", "uint8")
        and demo.rejected == 0
    )
    fusar, srsdd = (
        demo.table[demo.table["source"] == f"simulated {name}"]
        for name in ("FUSAR-Ship", "SRSDD")
    )
    assert fusar["mmsi"].notna().all() and fusar["incidence_deg"].between(20, 50).all()
    assert (srsdd["spacing_m"] == 1).all() and (srsdd["box"].str.len() == 8).all()
    # of a scene
    assert (
        srsdd.groupby(srsdd["name"].str.split("_").str[0])["split"].nunique().max() == 1
    )


@pytest.mark.exhaustive  # the test of a killed build compares the same bytes
def test_the_seed_decides_every_byte_whatever_the_number_of_processes(demo, tmp_path):
    again = prepare_demo(tmp_path / "again", counts=COUNTS, scenes=4, jobs=1)
    assert (again.root / "manifest.parquet").read_bytes() == (
        demo.root / "manifest.parquet"
    ).read_bytes()


@pytest.mark.parametrize(
    "options", [{"seed": 1}, {"counts": COUNTS | {"val": COUNTS["train"]}}]
)
def test_a_store_of_another_request_is_refused_before_any_work(demo, options):
    with pytest.raises(RequestError, match="a chip store already"):
        prepare_demo(demo.root, **{"counts": COUNTS, "scenes": 4} | options)


def test_the_same_request_is_done_already(demo, monkeypatch, caplog):
    monkeypatch.setattr(archives, "write_srsdd_tree", None)
    before = (demo.root / "dataset.json").stat()
    left = [
        demo.root.parent / name
        for name in (".demo.partial", ".demo.simulated", ".demo-fusar.unpacked")
    ]
    for folder in left:
        (folder / "x").mkdir(parents=True)
    assert prepare_demo(demo.root, counts=COUNTS, scenes=4).classes == demo.classes
    assert (
        demo.root / "dataset.json"
    ).stat() == before and "has built this store already" in caplog.text
    assert [path.name for path in demo.root.parent.iterdir()] == ["demo"]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_killed_build_goes_on_with_its_simulated_files(demo, tmp_path, monkeypatch):
    def build_and_die():
        kill_at_call(builder, "build_store")
        prepare_demo(tmp_path / "demo", counts=COUNTS, scenes=4, jobs=1)

    run_until_killed(build_and_die)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".demo.simulated",
        ".demo.simulated.lock",
    ]
    monkeypatch.setattr(archives, "write_srsdd_tree", None)
    monkeypatch.setattr(archives, "write_fusar_tree", None)
    store = prepare_demo(tmp_path / "demo", counts=COUNTS, scenes=4, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert (store.root / "manifest.parquet").read_bytes() == (
        demo.root / "manifest.parquet"
    ).read_bytes()


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="asks Linux for child processes"
)
def test_workers_die_with_their_parent(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=prepare_demo, args=(tmp_path / "demo",)
    )
    process.start()
    workers: list[str] = []
    limit = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < limit:
        workers = (
            Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        )
        time.sleep(0.05)
    assert len(workers) == 2
    process.kill()
    process.join()
    limit = time.monotonic() + 20
    while (
        any(Path("/proc", pid).exists() for pid in workers) and time.monotonic() < limit
    ):
        time.sleep(0.1)
    alive = [pid for pid in workers if Path("/proc", pid).exists()]
    for pid in alive:
        os.kill(int(pid), signal.SIGKILL)
    assert not alive


def test_a_scene_replaces_only_a_scene(tmp_path):
    folder = tmp_path / "new" / "scene"
    prepare_demo_scene(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "ais.csv",
        "land.gpkg",
        "scene.tif",
        "ships.gpkg",
    ]
    before = (folder / "scene.tif").read_bytes()
    with pytest.raises(RequestError, match="exists already"):
        prepare_demo_scene(folder, seed=1)
    prepare_demo_scene(folder)  # of the same seed: done already
    assert (folder / "scene.tif").read_bytes() == before
    prepare_demo_scene(folder, seed=1, overwrite=True)
    assert (folder / "scene.tif").read_bytes() != before
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="other files"):
        prepare_demo_scene(folder, overwrite=True)
    with pytest.raises(RequestError, match="other files"):
        prepare_demo_scene(folder / "notes.txt", overwrite=True)
