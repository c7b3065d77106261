"""Chip stores of small copies of Places-LT and iNaturalist 2018."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsft.errors import RequestError
from rsft.plugins.natural_images import list_files
from rsft.plugins.natural_images.prepare import prepare_inat2018, prepare_places_lt


def write_list(root, name, rows, images):
    """Write a list, and the images of its first rows."""
    (root / name).write_text("\n".join(rows))
    for row in rows[:images]:
        path = root / row.split()[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(
            np.random.default_rng(len(row)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        ).save(path)


@pytest.mark.slow
def test_places(tmp_path):
    src = tmp_path / "places"
    src.mkdir()
    rows = [f"data_256/a/airfield/{index:08}.jpg 0" for index in range(101)]
    write_list(
        src,
        "Places_LT_train.txt",
        [*rows, "data_256/b/bar/1.jpg 1", "data_256/b/bar/2.jpg 1"],
        102,
    )
    write_list(src, "Places_LT_val.txt", ["val_256/1.jpg 0"], 1)
    write_list(src, "Places_LT_test.txt", ["val_256/2.jpg 1", "val_256/3.jpg 365"], 2)
    store = prepare_places_lt(src, tmp_path / "out")
    assert len(store.classes) == 365 and store.classes[:3] == (
        "airfield",
        "bar",
        "class-2",
    )
    assert [
        int(store.class_counts(split).sum()) for split in ("train", "val", "test")
    ] == [102, 1, 1]
    assert store.license == "unknown"
    assert store.groups["head"] == ["airfield"] and "bar" in store.groups["tail"]
    listed = pd.read_csv(store.root / "rejected.csv")
    assert sorted(zip(listed["line"], listed["reason"], strict=True)) == [
        (0, "1 rows; published: 7,300"),
        (0, "103 rows; published: 62,500"),
        (0, "2 rows; published: 36,500"),
        (2, "the class number must be 0 to 364: val_256/3.jpg 365"),
        (103, "the file does not exist: data_256/b/bar/2.jpg 1"),
    ]


def test_inaturalist(tmp_path, monkeypatch):
    published = replace(list_files.INATURALIST_2018, classes=8)
    monkeypatch.setattr(list_files, "INATURALIST_2018", published)
    src = tmp_path / "inat"
    src.mkdir()
    rows = ["train_val2018/Aves/3/a.jpg 3", "train_val2018/Fungi/7/b.jpg 7"]
    write_list(src, "iNaturalist18_train.txt", rows, 2)
    store = prepare_inat2018(src, tmp_path / "out")
    assert store.license == "non-commercial, research-only"
    assert (
        set(store.table["class"]) == {"Aves-3", "Fungi-7"} and len(store.classes) == 8
    )
    assert prepare_inat2018(src, tmp_path / "out").classes == store.classes
    with pytest.raises(RequestError, match="a chip store already"):
        prepare_inat2018(tmp_path, tmp_path / "out")
