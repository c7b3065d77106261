"""The demonstration data: counts, splits without shared scenes, skipped chips."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.demo import DEMO_CLASSES, prepare_demo, prepare_demo_scene
from rsft.errors import RequestError

COUNTS = {"train": {"cargo": 6, "fishing": 3, "tanker": 2, "dredger": 1}} | {
    split: dict.fromkeys(DEMO_CLASSES, 1) for split in ("val", "test")
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ChipStore:
    return prepare_demo(tmp_path_factory.mktemp("data") / "demo", counts=COUNTS, scenes=4)


def test_counts_are_met_from_both_archives(demo: ChipStore) -> None:
    for split, counts in COUNTS.items():
        assert demo.class_counts(split).tolist() == [counts[name] for name in DEMO_CLASSES]
    assert set(demo.table["source"]) == {"simulated FUSAR-Ship", "simulated SRSDD"}
    assert demo.groups == {"head": ["cargo", "fishing"], "medium": [], "tail": ["tanker", "dredger"]}


def test_chips_have_both_units_one_band_and_metadata(demo: ChipStore) -> None:
    assert demo.bands == ("HH",) and demo.units == ("uint16", "uint8") and demo.rejected == 0
    fusar, srsdd = (demo.table[demo.table["source"] == f"simulated {name}"] for name in ("FUSAR-Ship", "SRSDD"))
    assert fusar["mmsi"].notna().all() and fusar["incidence_deg"].between(20, 50).all()
    assert (srsdd["spacing_m"] == 1).all() and (srsdd["box"].str.len() == 8).all()


def test_simulated_images_have_the_license_of_rsft(demo: ChipStore) -> None:
    assert demo.license == "MIT"


def test_a_scene_is_in_one_split(demo: ChipStore) -> None:
    srsdd = demo.table[demo.table["source"] == "simulated SRSDD"]
    splits = srsdd.groupby(srsdd["name"].str.split("_").str[0])["split"].nunique()
    assert (splits == 1).all()


def test_skipped_chips_are_counted(demo: ChipStore) -> None:
    assert demo.skipped["FUSAR-Ship Tug: not among the classes"] == 3
    assert demo.skipped["SeaClutterWaves is not a ship category"] == 4


def test_no_other_file_remains(demo: ChipStore) -> None:
    assert [path.name for path in demo.root.parent.iterdir()] == ["demo"]


def test_the_seed_decides_every_byte_whatever_the_number_of_processes(demo: ChipStore, tmp_path: Path) -> None:
    again = prepare_demo(tmp_path / "again", counts=COUNTS, scenes=4, jobs=1)
    assert (again.root / "manifest.parquet").read_bytes() == (demo.root / "manifest.parquet").read_bytes()


def test_a_taken_root_is_refused_before_any_work(demo: ChipStore) -> None:
    with pytest.raises(RequestError, match="a chip store already"):
        prepare_demo(demo.root, counts=COUNTS, scenes=4)


def test_a_scene_replaces_only_a_scene(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "scene"
    prepare_demo_scene(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["land.gpkg", "scene.tif", "ships.gpkg"]
    before = (folder / "scene.tif").read_bytes()
    with pytest.raises(RequestError, match="exists already"):
        prepare_demo_scene(folder)
    prepare_demo_scene(folder, seed=1, overwrite=True)
    assert (folder / "scene.tif").read_bytes() != before
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="other files"):
        prepare_demo_scene(folder, overwrite=True)
    with pytest.raises(RequestError, match="other files"):
        prepare_demo_scene(folder / "notes.txt", overwrite=True)
