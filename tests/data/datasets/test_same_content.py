"""Chips with the same content, scene or vessel."""

import numpy as np
from PIL import Image

from rsft.data.datasets.formats.fusar_files import FUSARChip
from rsft.data.datasets.formats.srsdd_files import SRSDDShip
from rsft.data.datasets.same_content import group_by_content, read_contents


def test_chips_that_share_a_key_get_the_group_of_the_first():
    keys = [["a"], ["b"], ["b", "c"], ["c"], ["d"]]
    assert group_by_content(["1", "2", "3", "4", "1"], keys) == [
        "1",
        "2",
        "2",
        "2",
        "1",
    ]


def test_turned_copies_have_the_same_content_and_augmented_ones_share_a_key(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    other = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    images = {"a": pixels, "b": np.rot90(pixels), "c": other, "a_hflip": other // 2}
    for name, image in images.items():
        Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in images]
    (tmp_path / "bad.png").write_bytes(b"")
    paths.append(tmp_path / "bad.png")
    chips = [FUSARChip(path, path.stem, "Cargo", "") for path in paths]
    contents, keys = read_contents(chips, [], jobs=2)
    assert contents[0] == contents[1] and len(set(contents)) == 4
    assert {*keys[0]} & {*keys[3]} and not {*keys[0]} & {*keys[2]}
    assert contents[4] == str(paths[4])


def test_each_ship_of_an_image_has_the_content_of_its_own_chip(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (192, 192), np.uint8)
    labels = tmp_path / "labels.txt"
    ships = []
    for name, left in (("a", 30), ("a", 120), ("b", 120), ("b", 900)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(path)
        box = (left, 80, left + 20, 80, left + 20, 90, left, 90)
        ships.append(SRSDDShip(left, 1, "Cargo", box, 0, path, labels))
    contents, _ = read_contents([], ships, jobs=1)
    assert contents[0] != contents[1] == contents[2]
    assert contents[3] == f"{labels}:900"  # outside of the image
