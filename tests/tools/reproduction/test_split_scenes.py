import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.manifest import read_manifest
from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder
from tools.reproduction.split_scenes import halves, main


def test_both_sides_have_every_class_and_each_split_is_also_reversed():
    rows = [
        ("A", "x", 3),
        ("A", "y", 1),
        ("B", "x", 2),
        ("C", "y", 4),
        ("D", "x", 1),
        ("D", "y", 1),
    ]
    table = pd.DataFrame(
        [(scene, label) for scene, label, count in rows for _ in range(count)]
    )
    table.columns = ["group_key", "class"]
    assert list(halves(table, 2)) == [{"A", "D"}, {"B", "C"}]
    assert list(halves(table, 1)) == [
        {"A", "B"},
        {"C", "D"},
        {"A", "C"},
        {"B", "D"},
        {"A", "D"},
        {"B", "C"},
    ]


def test_the_copies_are_stores_with_other_splits(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for label in "ab":
        for number in range(8):
            file = tmp_path / f"chips/{label}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), rng.integers(0, 255, (8, 8), np.uint8))
    prepare_folder(tmp_path / "chips", tmp_path / "store", val=0.5)
    manifest = read_manifest(tmp_path / "store")
    scenes = manifest.groupby("class").cumcount().mod(4).map("scene {}".format)
    manifest.assign(group_key=scenes).to_parquet(tmp_path / "store/manifest.parquet")
    main([str(tmp_path / "store"), str(tmp_path / "split_"), "--least", "4"])
    assert capsys.readouterr().out.count("8 training chips, 8 validation chips") == 6
    for number in range(0, 6, 2):
        first, second = (
            ChipStore.open(tmp_path / f"split_{x}") for x in (number, number + 1)
        )
        assert set(first.split("train")["path"]) == set(second.split("val")["path"])
        assert first.split("train")["group_key"].nunique() == 2 and list(
            first.class_counts("train")
        ) == [4, 4]
    with pytest.raises(OSError, match="not empty"):
        main([str(tmp_path / "store"), str(tmp_path / "split_"), "--least", "4"])
