"""SRSDD: label files with faults, layouts of copies, and the chips around the boxes."""

import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets.srsdd import SRSDD
from tests.data.datasets.srsdd.data import HEADER, write_srsdd
from tests.helpers.messages import mentions

ROW_FAULT = "the row is not 8 numbers"
BOX = "100 100 150 100 150 120 100 120"


def write_image(root, labels, stem="7", size=200):
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(1, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / f"{stem}.png")
    (root / "labels" / f"{stem}.txt").write_bytes(
        labels if isinstance(labels, bytes) else labels.encode()
    )
    return SRSDD(root, split="all")


@pytest.mark.parametrize(
    "header",
    [
        "",
        HEADER,
        "imagesource:GF3\n",
        "acquisition dates:2017-05-01\nimagesource:GF3\ngsd:1\n",
        "'imagesource':GF3\n'gsd':1\n",
        "x1 y1 x2 y2 x3 y3 x4 y4 category difficult\n",
    ],
)
def test_ships_count_from_one_below_the_header(tmp_path, header):
    ships = write_image(tmp_path, f"{header}{BOX} Fishing 1\n{BOX} ore-oil 0\n").ships
    expected = [("L7_1", "Fishing", 1), ("L7_2", "ore-oil", 0)]
    assert [(ship.name, ship.category, ship.difficult) for ship in ships] == expected


def test_spellings_of_a_class_are_recognized_and_crlf_is_accepted(tmp_path):
    spellings = {
        "Cell-container": "Cell-Container",
        "Ore-oil": "ore-oil",
        "Law-enforce": "LawEnforce",
    }
    spellings |= dict.fromkeys(("Law Enforce", "law enforcement"), "LawEnforce") | {
        "dredger": "Dredger"
    }
    spellings |= dict.fromkeys(("bulk-cargo", "Bulk Cargo"), "bulk-cargo")
    rows = [
        f"{BOX} {name}{difficulty}\r\n\r\n"
        for name in spellings
        for difficulty in ("", " 2")
    ]
    dataset = write_image(tmp_path, "\ufeff" + "".join(rows))
    expected = [
        (name, difficult) for name in spellings.values() for difficult in (0, 2)
    ]
    assert [
        (ship.category, ship.difficult) for ship in dataset.ships
    ] == expected and dataset.rejected == []
    assert [(ship.line, ship.number) for ship in dataset.ships[:2]] == [(1, 1), (3, 2)]


def test_bad_rows_are_listed_and_rename_no_other_ship(tmp_path):
    rows = [
        "1 2 3 Fishing 0",
        f"{BOX} Submarine 0",
        f"{BOX.replace('120', 'x')} Fishing 0",
        "5 5 5 5 5 5 5 5 Fishing 0",
        f"{BOX.replace('120', 'nan')} Fishing 0",
        f"{BOX} Fishing 3",
        f"{BOX} 0",
        f"{BOX} Fishing 0",
    ]
    dataset = write_image(tmp_path, "\n".join(["gsd:1", *rows]))
    assert [ship.name for ship in dataset.ships] == ["L7_8"]
    assert [(line, reason.split(",")[0]) for _, line, reason in dataset.rejected] == [
        (2, ROW_FAULT),
        (3, "unknown class Submarine"),
        (4, ROW_FAULT),
        (5, "the box has no area"),
        (6, "a corner is not within 1"),
        (7, ROW_FAULT),
        (8, ROW_FAULT),
    ]


def test_chip_side_is_a_multiple_of_64_around_the_middle_of_the_box(tmp_path):
    ship = write_image(tmp_path, f"{BOX} Fishing 0\n").ships[0]
    image = np.asarray(Image.open(ship.image))
    np.testing.assert_array_equal(ship.crop(image), image[78:142, 93:157])
    np.testing.assert_array_equal(
        ship.crop(image[..., None])[..., 0], image[78:142, 93:157]
    )
    assert ship.box_in_chip == [7, 22, 57, 22, 57, 42, 7, 42]


@pytest.mark.parametrize(
    ("box", "side"),
    [((20, 84), 64), ((20, 85), 128), ((20, 30), 64), ((-100, 140), 256)],
)
def test_chip_side_grows_with_the_ship(tmp_path, box, side):
    left, right = box
    ship = write_image(
        tmp_path, f"{left} 20 {right} 20 {right} 30 {left} 30 Fishing 0\n"
    ).ships[0]
    assert ship.crop(np.zeros((40, 40))).shape == (side, side)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("300 90 320 90 320 110 300 110", "outside"),
        ("0 0 50000 0 50000 50000 0 50000", "50,048 pixels .* 4,096"),
    ],
)
def test_a_box_outside_the_image_or_too_large_has_no_chip(tmp_path, box, message):
    write_srsdd(tmp_path, {image: ["Fishing", "Dredger"] for image in range(20, 40)})
    ship = write_image(tmp_path, f"{box} Fishing 0\n").ships[0]
    with pytest.raises(ValueError, match=message):
        ship.crop(np.zeros((200, 200)))


def test_at_the_border_the_image_is_mirrored(tmp_path):
    ship = write_image(tmp_path, "-4 90 20 90 20 110 -4 110 Fishing 0\n").ships[0]
    left, top, side = ship.window
    image = np.asarray(Image.open(ship.image))
    expected = np.pad(image, ((0, 0), (-left, 0)), mode="reflect")[
        top : top + side, :side
    ]
    np.testing.assert_array_equal(ship.crop(image), expected)


def test_images_and_labels_without_a_partner_are_reported(tmp_path):
    write_image(tmp_path, b"\xff\xfe", stem="8")
    (tmp_path / "images/9.png").write_bytes(b"x")
    Image.open(tmp_path / "images/8.png").save(tmp_path / "8.tiff")
    (tmp_path / "labels/10.txt").write_text(f"{BOX} Fishing 0")
    dataset = SRSDD(tmp_path, split="all")
    assert dataset.skipped == {"image without a label file": 1} and len(dataset) == 1
    assert sorted(
        (Path(file).name, reason.split(":")[0]) for file, _, reason in dataset.rejected
    ) == [
        ("10.txt", "image 10 is missing"),
        ("8.tiff", "8 exists already"),
        ("8.txt", "the file is not UTF-8 text"),
    ]


@pytest.mark.parametrize(
    "row", ["Fishing {}", "Fishing 0.5 0.5 0.1 0.2", "{},Fishing,0"]
)
def test_rows_in_another_order_are_no_header(tmp_path, row):
    dataset = write_image(
        tmp_path, row.format(BOX if "," not in row else BOX.replace(" ", ",")) + "\n"
    )
    assert len(dataset.rejected) == 1 and not dataset.ships


def check_pixels(root, images):
    """Check that every ship is cut from the image of its label file: images by label
    file, both below `root`."""
    dataset = SRSDD(root, split="all")
    assert {
        ship.label_file.relative_to(root).as_posix() for ship in dataset.ships
    } == images.keys()
    for ship in dataset.ships:
        truth = np.asarray(
            Image.open(root / images[ship.label_file.relative_to(root).as_posix()])
        )
        np.testing.assert_array_equal(
            ship.crop(np.asarray(Image.open(ship.image))), ship.crop(truth)
        )
    return dataset


SHIPS = {number: ["Fishing", "Dredger"] for number in (1, 2)}


@pytest.mark.parametrize("unlabeled", ["aerial", "val"])
def test_equal_stems_belong_to_the_nearest_folder(tmp_path, unlabeled):
    write_srsdd(tmp_path / "test", SHIPS)
    write_srsdd(tmp_path / "train", SHIPS, seed=1)
    write_srsdd(tmp_path / unlabeled, SHIPS, seed=2)
    shutil.rmtree(tmp_path / unlabeled / "labels")
    has_backup = unlabeled == "val"  # other images could belong to the backup
    if has_backup:
        shutil.copytree(tmp_path / "test/labels", tmp_path / "backup/test")
    folders = [(split, number) for split in ("test", "train") for number in SHIPS]
    dataset = check_pixels(
        tmp_path,
        {
            f"{x}/labels/{number}.txt": f"{x}/images/{number}.png"
            for x, number in folders
        },
    )
    assert (
        dataset.skipped == {"image without a label file": 2}
        and len(dataset.images) == 4
    )
    assert [
        (Path(file).parent.name, reason) for file, _, reason in dataset.rejected
    ] == [
        ("test", f"{number} exists already: {tmp_path / f'test/labels/{number}.txt'}")
        for number in SHIPS
        if has_backup
    ]


def test_splits_below_images_and_labels(tmp_path):
    for number, split in enumerate(("train", "test")):
        write_srsdd(tmp_path / split, SHIPS, seed=number)
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / split / kind).rename(tmp_path / kind / split)
    pairs = [(split, number) for split in ("train", "test") for number in SHIPS]
    check_pixels(
        tmp_path,
        {
            f"labels/{split}/{number}.txt": f"images/{split}/{number}.png"
            for split, number in pairs
        },
    )


def test_an_image_that_is_missing_is_not_taken_from_a_data_set_beside(tmp_path):
    write_srsdd(tmp_path / "SRSDD", SHIPS)
    write_srsdd(tmp_path / "other", SHIPS, seed=1)
    shutil.rmtree(tmp_path / "other/labels")
    (tmp_path / "SRSDD/images/2.png").unlink()
    dataset = check_pixels(tmp_path, {"SRSDD/labels/1.txt": "SRSDD/images/1.png"})
    assert dataset.rejected == [
        (str(tmp_path / "SRSDD/labels/2.txt"), 0, "image 2 is missing")
    ]


def with_filtered_images(root):
    write_srsdd(root / "denoised", SHIPS, seed=1)
    shutil.rmtree(root / "denoised/labels")


def with_drawn_boxes(root):
    (root / "images").rename(root / "imgs")
    with_filtered_images(root)
    (root / "denoised/images").rename(root / "drawn")


def with_edited_labels(root):
    shutil.copytree(root / "labels", root / "labels_new")
    (root / "labels_new/2.txt").write_text(f"{BOX} Container 0\n")


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (with_filtered_images, ["images/1.png", "denoised/images/1.png"]),
        (with_drawn_boxes, ["imgs/1.png", "drawn/1.png"]),
        (with_edited_labels, ["labels/2.txt", "labels_new/2.txt"]),
    ],
)
def test_files_that_differ_and_are_equally_near_are_refused(tmp_path, change, files):
    change(write_srsdd(tmp_path, SHIPS))
    with pytest.raises(
        ValueError, match=mentions(*(str(tmp_path / file) for file in files), "differ")
    ):
        SRSDD(tmp_path, split="all")


def test_copies_of_images_and_labels_are_rejected(tmp_path):
    write_srsdd(tmp_path, SHIPS)
    shutil.copytree(tmp_path / "labels", tmp_path / "annfiles")
    pixels = np.asarray(Image.open(tmp_path / "images/1.png"))
    Image.fromarray(
        np.stack([pixels, pixels, pixels, np.full_like(pixels, 255)], axis=2)
    ).save(tmp_path / "1.png")
    dataset = check_pixels(
        tmp_path, {f"labels/{number}.txt": f"images/{number}.png" for number in SHIPS}
    )
    assert sorted(
        Path(file).relative_to(tmp_path).as_posix() for file, _, _ in dataset.rejected
    ) == ["1.png", "annfiles/1.txt", "annfiles/2.txt"]


def test_missing_images_and_labels_are_no_shift(tmp_path):
    write_srsdd(tmp_path, {number: ["Fishing"] for number in range(1, 8)})
    for missing in ("images/7.png", "labels/1.txt", "labels/4.txt"):
        (tmp_path / missing).unlink()
    assert len(SRSDD(tmp_path, split="all").images) == 4


def test_not_found(tmp_path):
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            SRSDD(root)


def test_labels_in_another_format_are_left_out(tmp_path):
    write_srsdd(tmp_path, {1: ["Fishing"], 2: ["Dredger"]})
    for folder, row in (
        ("labels_yolo", "0 0.5 0.5 0.1 0.2\n"),
        ("Annotations", "3 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"),
    ):
        (tmp_path / folder).mkdir()
        for image in (1, 2):
            (tmp_path / folder / f"{image}.txt").write_text(row)
    dataset = SRSDD(tmp_path, split="all")
    assert [ship.category for ship in dataset.ships] == [
        "Fishing",
        "Dredger",
    ] and dataset.rejected == []
    assert dataset.skipped == {"label file in another format": 4}


def test_splits(tmp_path):
    write_srsdd(tmp_path / "train", {1: ["Fishing"], 10: ["Container"]})
    write_srsdd(tmp_path / "test", {2: ["Dredger"]})
    images = {
        split: [path.stem for path in SRSDD(tmp_path, split).images]
        for split in SRSDD.splits
    }
    assert images == {"train": ["1", "10"], "test": ["2"], "all": ["1", "2", "10"]}
    with pytest.raises(AssertionError, match="Split 'val' not supported"):
        SRSDD(tmp_path, split="val")


def test_samples(tmp_path):
    dataset = write_image(tmp_path, f"{BOX} Dredger 0\n{BOX} bulk-cargo 0\n")
    sample = dataset[0]
    assert sample["image"].shape == (1, 200, 200) and sample["bbox"].shape == (2, 8)
    assert [dataset.classes[label] for label in sample["label"]] == [
        "Dredger",
        "bulk-cargo",
    ]
    transformed = SRSDD(
        tmp_path, "all", transforms=lambda sample: sample | {"seen": torch.ones(1)}
    )[0]
    assert transformed["seen"] == 1


def test_an_image_without_ships_has_no_boxes(tmp_path):
    sample = write_image(tmp_path, HEADER)[0]
    assert sample["bbox"].shape == (0, 8) and sample["label"].shape == (0,)


def test_plot(tmp_path):
    write_image(tmp_path, f"{BOX} Dredger 0\n")
    dataset = SRSDD(tmp_path, "all")
    axes = dataset.plot(dataset[0], suptitle="Test").axes[0]
    assert len(axes.patches) == 1 and [text.get_text() for text in axes.texts] == [
        "Dredger"
    ]
    assert axes.patches[0].get_xy()[:4].tolist() == [
        [100, 100],
        [150, 100],
        [150, 120],
        [100, 120],
    ]
    assert not dataset.plot(dataset[0], show_titles=False).axes[0].texts
    plt.close("all")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["1e9", "1e300", "inf", "nan"])
def test_coordinates_have_a_largest_value(tmp_path, number):
    dataset = write_image(
        tmp_path,
        f"0 0 {number} 0 {number} {number} 0 {number} ore-oil 0\n{BOX} Fishing 0\n",
    )
    assert [ship.line for ship in dataset.ships] == [2]
    (reason,) = [reason for _, _, reason in dataset.rejected]
    assert "not within 1,000,000 pixels" in reason


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_pipes_are_refused(tmp_path):
    write_image(tmp_path, f"{BOX} Fishing 0\n")
    os.mkfifo(tmp_path / "labels/8.txt")
    with pytest.raises(OSError, match=mentions("pipe", "device")):
        SRSDD(tmp_path, split="all")


class TestSRSDD:
    """The tests that TorchGeo has for each of its data sets."""

    @pytest.fixture(params=["train", "test", "all"])
    def dataset(self, tmp_path, request):
        write_srsdd(tmp_path / "train", {1: ["Fishing", "Dredger"], 2: ["ore-oil"]})
        write_srsdd(tmp_path / "test", {3: ["Dredger", "Fishing"]})
        return SRSDD(tmp_path, request.param, transforms=nn.Identity())

    def test_getitem(self, dataset):
        x = dataset[0]
        assert isinstance(x, dict)
        assert isinstance(x["image"], torch.Tensor)
        assert x["image"].shape == (1, 96, 96)
        assert isinstance(x["label"], torch.Tensor)
        assert x["label"].shape == (2,)
        assert isinstance(x["bbox"], torch.Tensor)
        assert x["bbox"].shape == (2, 8)

    def test_len(self, dataset):
        assert len(dataset) == {"train": 2, "test": 1, "all": 3}[dataset.split]

    def test_add(self, dataset):
        ds = dataset + dataset
        assert isinstance(ds, ConcatDataset)
        assert len(ds) == 2 * len(dataset)

    def test_not_downloaded(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
            SRSDD(tmp_path)

    def test_plot(self, dataset):
        x = dataset[0].copy()
        dataset.plot(x, suptitle="Test")
        plt.close()
        dataset.plot(x, show_titles=False)
        plt.close()
