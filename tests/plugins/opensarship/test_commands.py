"""`rsft prepare opensarship`."""

import pytest

from rsft.data.chips.store import ChipStore
from tests.plugins.opensarship.data import GRD, SLC, write_scene


@pytest.mark.slow
def test_opensarship(rsft, tmp_path):
    for scene in (GRD, SLC):
        write_scene(tmp_path / "src", scene, {"Cargo_x3_y4": 70, "Tug_x5_y6": 52})
    words = ("--product", "cal", "--classes", "typed", "--val", "0.5", "--test", "0")
    code, printed = rsft("prepare", "opensarship", "src", "--root", "out", *words)
    assert (
        code == 0
        and "4 chips in" in printed
        and "labels: MarineTraffic for 0 of 4 chips" in printed
    )
    store = ChipStore.open(tmp_path / "out")
    assert (
        store.classes == ("Cargo", "Tug")
        and sorted(store.table["split"]) == ["train"] * 2 + ["val"] * 2
    )


@pytest.mark.slow
def test_class_that_is_missing_in_a_split(rsft, tmp_path):
    write_scene(tmp_path / "src", GRD, {"Cargo_x3_y4": 70, "Tug_x5_y6": 52})
    write_scene(tmp_path / "src", SLC, {"Cargo_x3_y4": 70})
    words = ("--classes", "typed", "--val", "0.4", "--test", "0")
    code, printed = rsft("prepare", "opensarship", "src", "--root", "out", *words)
    assert (
        code == 0
        and "warning: no chip in val: Tug; validation and calibration do not see"
        in printed
    )
