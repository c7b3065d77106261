"""SRSDD: label files with faults, and the chips around their boxes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsft.data.datasets.srsdd import CLASSES, SRSDD, crop_ship
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError

BOX = "100 100 150 100 150 120 100 120"


def write_image(root: Path, labels: str | bytes, stem: str = "7", size: int = 200) -> SRSDD:
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(1, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / f"{stem}.png")
    (root / "labels" / f"{stem}.txt").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return SRSDD(root)


@pytest.mark.parametrize("header", ["", "imagesource:GF3\ngsd:1\n", "imagesource:GF3\n"])
def test_ships_count_from_one_below_the_header(tmp_path: Path, header: str) -> None:
    ships = write_image(tmp_path, f"{header}{BOX} Fishing 1\n{BOX} ore-oil 0\n").ships
    assert [(ship.name, ship.category, ship.difficult) for ship in ships] == [
        ("L7_1", "Fishing", 1),
        ("L7_2", "ore-oil", 0),
    ]


@pytest.mark.parametrize(
    ("spelling", "category"),
    [
        ("Cell-container", "Cell-Container"),
        ("Ore-oil", "ore-oil"),
        ("Law-enforce", "LawEnforce"),
        ("dredger", "Dredger"),
    ],
)
def test_spellings_of_a_class_are_recognized(tmp_path: Path, spelling: str, category: str) -> None:
    assert write_image(tmp_path, f"{BOX} {spelling} 0\n").ships[0].category == category


def test_bom_and_crlf_are_accepted(tmp_path: Path) -> None:
    source = write_image(tmp_path, f"\ufeff{BOX} Container 0\r\n\r\n{BOX} Container\r\n".encode())
    assert [(ship.line, ship.number) for ship in source.ships] == [(1, 1), (3, 2)] and source.rejected == []


def test_bad_rows_are_listed_and_rename_no_other_ship(tmp_path: Path) -> None:
    rows = [
        "1 2 3 Fishing 0",
        f"{BOX} Submarine 0",
        f"{BOX.replace('120', 'x')} Fishing 0",
        "5 5 5 5 5 5 5 5 Fishing 0",
        f"{BOX.replace('120', 'nan')} Fishing 0",
        f"{BOX} Fishing 0",
    ]
    source = write_image(tmp_path, "\n".join(["gsd:1", *rows]))
    assert [ship.name for ship in source.ships] == ["L7_6"]
    assert [(line, reason.split(",")[0]) for _, line, reason in source.rejected] == [
        (2, "5 fields; a row has 8 numbers"),
        (3, "unknown class Submarine"),
        (4, "a corner or the difficulty is not a number"),
        (5, "the box has no area"),
        (6, "the box has no area"),
    ]


def test_chip_side_is_a_multiple_of_64_around_the_middle_of_the_box(tmp_path: Path) -> None:
    ship = write_image(tmp_path, f"{BOX} Fishing 0\n").ships[0]
    image = np.asarray(Image.open(ship.image))
    np.testing.assert_array_equal(crop_ship(ship)[..., 0], image[78:142, 93:157])
    assert ship.box_in_chip == [7, 22, 57, 22, 57, 42, 7, 42]


def test_ships_of_one_image_have_it_decoded_once_unless_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ships = write_image(tmp_path, f"{BOX} Fishing 0\n" * 3).ships
    decoded = []
    monkeypatch.setattr("rsft.data.datasets.srsdd.read_chip", lambda path: (decoded.append(path), read_chip(path))[1])
    first = [crop_ship(ship) for ship in ships]
    assert decoded == [ships[0].image]
    Image.fromarray(255 - np.asarray(Image.open(ships[0].image))).save(ships[0].image)
    os.utime(ships[0].image, ns=(0, 1))
    np.testing.assert_array_equal(crop_ship(ships[0]), 255 - first[0])


@pytest.mark.parametrize(("length", "side"), [(64, 64), (65, 128), (10, 64)])
def test_chip_side_grows_with_the_ship(tmp_path: Path, length: int, side: int) -> None:
    box = f"20 20 {20 + length} 20 {20 + length} 30 20 30"
    assert crop_ship(write_image(tmp_path, f"{box} Fishing 0\n").ships[0]).shape == (side, side, 1)


def test_at_the_border_the_image_is_mirrored(tmp_path: Path) -> None:
    ship = write_image(tmp_path, "-4 90 20 90 20 110 -4 110 Fishing 0\n").ships[0]
    left, top, side = ship.window
    image = np.asarray(Image.open(ship.image))
    expected = np.pad(image, ((0, 0), (-left, 0)), mode="reflect")[top : top + side, :side]
    np.testing.assert_array_equal(crop_ship(ship)[..., 0], expected)


def test_a_ship_longer_than_the_image_still_has_a_chip(tmp_path: Path) -> None:
    ship = write_image(tmp_path, "-100 10 140 10 140 30 -100 30 Fishing 0\n", size=40).ships[0]
    assert crop_ship(ship).shape == (256, 256, 1)


def test_a_box_outside_the_image_has_none(tmp_path: Path) -> None:
    ship = write_image(tmp_path, "300 90 320 90 320 110 300 110 Fishing 0\n").ships[0]
    with pytest.raises(DataError, match="outside the image"):
        crop_ship(ship)


def test_three_equal_bands_are_one_and_others_are_refused(tmp_path: Path) -> None:
    ship = write_image(tmp_path, f"{BOX} Fishing 0\n").ships[0]
    pixels = np.repeat(np.asarray(Image.open(ship.image))[..., None], 3, axis=2)
    Image.fromarray(pixels).save(ship.image)
    assert crop_ship(ship).shape == (64, 64, 1)
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(ship.image)
    with pytest.raises(DataError, match="the 3 bands differ"):
        crop_ship(ship)


def test_images_and_labels_without_a_partner_are_reported(tmp_path: Path) -> None:
    write_image(tmp_path, b"\xff\xfe", stem="8")
    (tmp_path / "copy").mkdir()
    for name in ("images/9.png", "copy/8.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "labels/10.txt").write_text(f"{BOX} Fishing 0")
    source = SRSDD(tmp_path)
    assert source.skipped == {"image without a label file": 1} and len(source) == 1
    assert sorted((Path(file).name, reason.split(":")[0]) for file, _, reason in source.rejected) == [
        ("10.txt", "image 10 is missing"),
        ("8.png", "8 exists already"),
        ("8.txt", "the file is not UTF-8 text"),
    ]
    with pytest.raises(RequestError, match="no image has a label file"):
        SRSDD(tmp_path / "absent")


def test_samples_have_boxes_and_can_be_plotted(tmp_path: Path) -> None:
    source = write_image(tmp_path, f"{BOX} Dredger 0\n")
    sample = source[0]
    assert sample["image"].shape == (1, 200, 200) and sample["boxes"].shape == (1, 8)
    assert [CLASSES[label] for label in sample["labels"]] == ["Dredger"]
    assert len(source.plot(sample).axes[0].patches) == 1


@pytest.mark.realdata
def test_a_real_label_file_of_this_form_is_read(shared: Callable[[str], Path], tmp_path: Path) -> None:
    labels = (shared("dota_samples") / "labelTxt/P0004.txt").read_text()
    for other, ours in (("large-vehicle", "Fishing"), ("small-vehicle", "Dredger")):
        labels = labels.replace(other, ours)
    source = write_image(tmp_path, labels, stem="4", size=1500)
    assert len(source.ships) + len(source.rejected) == 107
    assert all(reason.startswith("unknown class") for _, _, reason in source.rejected)
