import numpy as np
import pytest

from tests.helpers.chip_tables import write_manifest_store
from tests.helpers.two_classes import fit_calibrator, outputs
from tools.reproduction.heldout_scenes import (
    CONTROL,
    format_table,
    measure,
    split_store,
)

CLASSES = ("cargo", "tanker")


@pytest.fixture
def store(tmp_path):
    columns = {
        "group_key": np.repeat(["a", "b", "c", "d"], 10),
        "class": list(CLASSES) * 20,
        "split": ["train"] * 40,
    }
    paths = [f"chips/{n:02}.png" for n in range(40)]
    return write_manifest_store(tmp_path / "store", CLASSES, path=paths, **columns)


@pytest.mark.parametrize("kind", ["by scene", "random"])
def test_a_scene_is_left_out(store, tmp_path, kind):
    table = split_store(store, "b", kind, 0, tmp_path / "fold").table
    assert (
        set(table["group_key"][table["split"] == "test"]) == {"b"}
        and (table["split"] == "test").sum() == 10
    )
    scenes = {
        split: set(table["group_key"][table["split"] == split])
        for split in ("train", "val")
    }
    assert scenes["train"].isdisjoint(scenes["val"]) == (kind == "by scene")
    assert (table["split"] == "val").sum() == 10 and (tmp_path / "fold/chips").is_dir()


def test_measured_sets_and_table():
    rng = np.random.default_rng(0)
    calibrator = fit_calibrator(rng, 80, 80)
    labels = np.arange(30) % 2
    near = measure(calibrator, outputs(rng, labels), labels, CLASSES)
    far = measure(calibrator, outputs(rng, labels, 9.0), labels, CLASSES)
    assert (
        near["chips"] == near["plain"]["issued"] == near["guarded"]["issued"] == 30
        and near["shifted"] == []
    )
    assert (
        near["plain"]["covered"]
        == sum(covered for covered, _ in near["plain"]["by_class"].values())
        > 20
    )
    assert (
        far["ood"] == 30 and far["guarded"]["issued"] == far["guarded"]["covered"] == 0
    )
    scene = "S1A_IW_GRDH_1SDV_20160131T101646_20160131T101715_009737_00E392_36F7"
    rows = [
        row | {"kind": kind, "seed": 0, "scene": name}
        for kind in ("by scene", "random")
        for row, name in ((far, scene), (near, CONTROL))
    ]
    lines = format_table(rows).splitlines()
    assert len(lines) == 2 + 2 * 3
    assert (
        lines[2].startswith("| S1A IW GRDH 1SDV 20160131 | by scene | 30 |")
        and lines[2].count("| - |") == 3
    )
    assert "| 100 % | 1 of 1 |" in lines[2] and lines[3].startswith(
        "| same scenes | by scene | 30 |"
    )
