"""DOTA: folder layouts, label files with faults, and crop windows."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from torchgeo.datasets import DOTA

from rsft.data.datasets.dota import (
    CLASSES,
    DOTAObjects,
    crop_object,
    crop_window,
    read_rgb,
)
from rsft.data.imagery import reader
from rsft.errors import DataError, RequestError
from tests.data.datasets.dota import data
from tests.data.datasets.dota.data import HEADER, VERSIONS, row, write_pair
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((10, 20, 30, 18, 32, 40, 12, 42), (10, 18, 32, 42)),
        ((10.2, 20.7, 30, 20, 30.1, 40, 10, 40), (10, 20, 31, 40)),
        ((-5, -5, 30, -5, 30, 20, -5, 20), (0, 0, 30, 20)),
        ((70, 50, 95, 50, 95, 70, 70, 70), (70, 50, 80, 60)),
        ((60, 40, 80, 40, 80, 60, 60, 60), (60, 40, 80, 60)),
    ],
)
def test_window_is_the_clipped_bounding_box(box, window):
    assert crop_window(box, 80, 60) == window


@pytest.mark.parametrize(
    ("box", "match"),
    [
        ((5, 5, 5, 5, 5, 20, 5, 20), "less than 4 pixels in the image"),
        ((5, 5, 8, 5, 8, 20, 5, 20), "less than 4 pixels"),
        ((78, 5, 99, 5, 99, 20, 78, 20), "less than 4 pixels"),
        ((90, 5, 99, 5, 99, 20, 90, 20), "less than 4 pixels"),
        ((-9, 5, 0, 5, 0, 20, -9, 20), "less than 4 pixels"),
        ((float("nan"), 5, 9, 5, 9, 20, 0, 20), "NaN or infinite"),
        ((0, 5, 1e400, 5, 9, 20, 0, 20), "NaN or infinite"),
    ],
)
def test_unusable_box_is_refused_with_its_reason(box, match):
    with pytest.raises(DataError, match=match):
        crop_window(box, 80, 60, min_size=4)


def test_faulty_label_rows_are_rejected_with_their_line(tmp_path):
    rows = [
        row(10, 10, 30, 20),
        row(10.5, 10, 30, 20, "Small Vehicle", 2),
        row(-5, 10, 30, 20, "ship", 1),
        "1 2 3 plane 0\n",
        row(1, 2, 30, 40, "submarine"),
        row(1, 2, 30, 40, difficult=3),
        row(1, 2, float("nan"), 40),
        "x" + row(1, 2, 30, 40),
        row(100, 2, 130, 40),
        row(10, 10, 30, 20),
        row(10, 10, 30, 20, "helipad"),
    ]
    text = (HEADER + "".join(rows)).replace("\n", "\r\n")
    pixels = write_pair(tmp_path, b"\xef\xbb\xbf" + text.encode())
    source = DOTAObjects(tmp_path)
    assert [
        (item.name, item.category, item.difficult, item.clipped, item.line)
        for item in source.objects
    ] == [
        ("P1_10_10_30_20", "plane", 0, False, 3),
        ("P1_10_10_30_20", "small-vehicle", 2, False, 4),
        ("P1_0_10_30_20", "ship", 1, True, 5),
    ]
    more = DOTAObjects(tmp_path, num_classes=18)
    assert more.objects[3].category == "helipad" and more.classes == CLASSES
    assert sorted(
        (line, reason.split(",")[0]) for _, line, reason in source.rejected
    ) == [
        (6, "the row is not 8 numbers"),
        (7, "unknown class submarine"),
        (8, "the row is not 8 numbers"),
        (9, "a corner is NaN or infinite"),
        (10, "the row is not 8 numbers"),
        (11, "a side of the box has less than 4 pixels in the image"),
        (12, "same class and window as line 3"),
    ]
    assert source.skipped == {"helipad: not among the 15 classes": 1}
    image = source.images[0]
    assert (image.width, image.height, image.sensor, image.spacing_m) == (
        80,
        60,
        "GoogleEarth",
        0.5,
    )
    np.testing.assert_array_equal(
        crop_object(source.objects[2], read_rgb(image.path)), pixels[10:20, :30]
    )
    assert source.objects[2].box_in_crop == [-5, 0, 30, 0, 30, 10, -5, 10]


@pytest.mark.parametrize("header", ["", "gsd:null\n", "imagesource:GF\n"])
def test_header_may_be_missing_or_empty(tmp_path, header):
    write_pair(tmp_path, header + row(10, 10, 30, 20))
    source = DOTAObjects(tmp_path)
    assert len(source.objects) == 1 and source.images[0].spacing_m is None


def test_gray_is_repeated_alpha_dropped_other_modes_refused(tmp_path):
    gray = write_pair(tmp_path, row(10, 10, 30, 20), "P1", mode="L")
    alpha = write_pair(tmp_path, row(10, 10, 30, 20), "P2", mode="RGBA")
    write_pair(tmp_path, row(10, 10, 30, 20), "P3", mode="I;16")
    source = DOTAObjects(tmp_path)
    assert [image.flag for image in source.images] == ["gray-repeated", "alpha-dropped"]
    np.testing.assert_array_equal(
        read_rgb(source.images[0].path), np.repeat(gray, 3, axis=2)
    )
    np.testing.assert_array_equal(read_rgb(source.images[1].path), alpha[..., :3])
    assert source.rejected[0][2].startswith("the image has mode I;16")


def test_error_gives_the_reason_if_no_image_is_usable(tmp_path, monkeypatch):
    write_pair(tmp_path, row(10, 10, 30, 20))
    monkeypatch.setattr(reader, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match=mentions("no image", "too large", "1,000")):
        DOTAObjects(tmp_path)


@pytest.mark.filterwarnings("error")
def test_largest_images_of_v2_are_accepted(tmp_path):
    write_pair(tmp_path, row(19_000, 19_000, 20_010, 19_500, "airport"))
    header = struct.pack(">4s2I5B", b"IHDR", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    # the pixels are not asked for
    pixels = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    (tmp_path / "images/P1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + pixels)
    assert DOTAObjects(tmp_path, num_classes=18).objects[0].window == (
        19_000,
        19_000,
        20_000,
        19_500,
    )


def test_files_without_a_partner_are_reported(tmp_path):
    write_pair(tmp_path, row(10, 10, 30, 20))
    write_pair(tmp_path, row(10, 10, 30, 20), labels_in="more labels")
    write_pair(tmp_path, b"\xff\xfe", "P2")
    write_pair(tmp_path, row(10, 10, 30, 20), "P3")
    (tmp_path / "images/P3.png").write_bytes(b"")
    data.write_image(tmp_path / "images/P4.png")
    (tmp_path / "labelTxt/P5.txt").write_text(row(1, 1, 9, 9))
    source = DOTAObjects(tmp_path)
    assert len(source.objects) == 1 and source.skipped == {
        "image without a label file": 1
    }
    assert sorted(
        (Path(file).name, reason.split(":")[0]) for file, _, reason in source.rejected
    ) == [
        ("P1.txt", "P1 exists already"),
        ("P2.txt", "the file is not UTF-8 text"),
        ("P3.png", "the file is not an image that can be read"),
        ("P5.txt", "image P5 is missing"),
    ]


@pytest.mark.parametrize(
    ("path", "text", "is_label"),
    [
        ("SOURCE.txt", "gsdata: github.com\n", False),
        ("crops_P1.txt", "val/plane/P1_10_10_30_20.png 10\n", False),
        ("train/README.txt", "", False),
        ("val/README.txt", "1 2 3 4 5 6 7 8\n", False),
        ("images/notes.txt", b"\xff\xfe\x00", False),
        ("DOTA v1.5/README.txt", "hello", False),
        ("labelTxt_without_image/P9.txt", "", True),
        ("Annotations/P9.txt", b"\xff\xfe", True),
        ("annfiles/P9.txt", row(1, 1, 9, 9), True),
        ("images/P9.txt", "\ufeff\r\n" + HEADER + row(1, 1, 9, 9), True),
        ("P9.txt", "-1.5 2e1 " + "3 " * 6 + "plane", True),
    ],
)
def test_a_text_file_without_an_image_is_a_label_file_or_counted(
    tmp_path, path, text, is_label
):
    write_pair(tmp_path, row(10, 10, 30, 20))
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    source = DOTAObjects(tmp_path)
    assert source.rejected == (
        [(str(tmp_path / path), 0, "image P9 is missing")] if is_label else []
    )
    assert source.skipped == (
        {} if is_label else {"text file that is not a label file": 1}
    )
    assert len(source.objects) == 1


def write_versions(root, layout):
    for split in ("train", "val"):
        for version, category in (("1.0", "plane"), ("1.5", "container-crane")):
            folder = layout.format(version=version)
            write_pair(
                root / split, row(10, 10, 30, 20, category), f"P-{split}", folder
            )


@pytest.mark.parametrize(
    "layout",
    [
        "annotations/version{version}",
        "labelTxt-v{version}",
        "DOTA v{version} 标注/labelTxt",
    ],
)
def test_folders_determine_split_and_version(tmp_path, layout):
    write_versions(tmp_path, layout)
    for folder in ("labelTxt-v1.0_hbb", "trainset_reclabelTxt"):
        write_pair(tmp_path / "train", row(10, 10, 35, 25), "P-train", folder)
    source = DOTAObjects(tmp_path, "1.5", num_classes=18)
    expected = [("train", "container-crane"), ("val", "container-crane")]
    assert [(item.image.split, item.category) for item in source.objects] == expected
    assert (
        source.skipped == {"label file of v1.0": 3, "label file of horizontal boxes": 1}
        and source.rejected == []
    )
    with pytest.raises(RequestError, match=mentions("2 x label file of v1.5")):
        DOTAObjects(tmp_path, "2.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_files_boxes_and_labels_are_those_of_torchgeo(tmp_path, version):
    data.write_torchgeo_tree(tmp_path)
    ours = DOTAObjects(tmp_path, version, num_classes=18)
    for split in ("train", "val"):
        theirs = DOTA(tmp_path, split, version)[1]
        (item,) = [item for item in ours.objects if item.image.split == split]
        assert [list(item.box)] == theirs["bbox"].tolist()
        assert [CLASSES.index(item.category)] == theirs["labels"].tolist()
        x1, y1, x2, y2 = item.window
        np.testing.assert_array_equal(
            crop_object(item, read_rgb(item.image.path)).transpose(2, 0, 1),
            theirs["image"][:, y1:y2, x1:x2],
        )
    assert len(ours.images) == 4 and ours.rejected == []
    assert ours.skipped == {f"label file of v{x}": 4 for x in VERSIONS if x != version}


@pytest.mark.parametrize("version", VERSIONS)
def test_archives_of_torchgeo_give_its_pixels_without_rejections(tmp_path, version):
    archives = data.write_torchgeo_archives(tmp_path / "archives")
    for archive in archives.glob("*.tar.gz"):
        shutil.unpack_archive(
            archive,
            tmp_path / "tree" / archive.name.removesuffix(".tar.gz"),
            filter="data",
        )
    # TorchGeo 0.10 checks by default
    theirs = DOTA(archives, "train", version, download=True, checksum=False)
    source = DOTAObjects(tmp_path / "tree", version)
    assert source.rejected == []
    assert [item.category for item in source.objects] == ["plane", "ship"]
    plane = source.objects[0]
    x1, y1, x2, y2 = plane.window
    np.testing.assert_array_equal(
        crop_object(plane, read_rgb(plane.image.path)).transpose(2, 0, 1),
        theirs[1]["image"][:, y1:y2, x1:x2],
    )
    assert source.skipped["file that the folder of another version repeats"] > 0


def test_archives_are_not_extracted(tmp_path):
    archives = data.write_torchgeo_archives(tmp_path / "archives")
    before = sorted(archives.rglob("*"))
    with pytest.raises(RequestError, match="does not contain an image with labels"):
        DOTAObjects(archives)
    assert sorted(archives.rglob("*")) == before


def test_the_nearest_folder_gives_the_split(tmp_path):
    write_pair(tmp_path / "train", row(10, 10, 30, 20), "P1")
    write_pair(
        tmp_path / "Validation", row(10, 10, 30, 20, "ship") + row(1, 1, 2, 2), "P2"
    )
    write_pair(tmp_path, row(10, 10, 30, 20, "harbor"), "P3")
    source = DOTAObjects(tmp_path)
    images = [(image.stem, image.split) for image in source.images]
    assert images == [("P3", ""), ("P1", "train"), ("P2", "val")]
    assert len(source.rejected) == 1


@pytest.mark.realdata
def test_crops_of_P1888_have_the_published_names(shared):
    root = shared("dota_samples")
    source = DOTAObjects(root)
    ours = [
        f"val/{item.category}/{item.name}.png"
        for item in source.objects
        if item.image.path.stem == "P1888"
    ]
    assert ours == [
        line.split()[0] for line in (root / "crops_P1888.txt").read_text().splitlines()
    ]
    # of two objects a split left a line
    assert len(DOTAObjects(root, min_size=1).objects) == 107 + 130 + 64 + 295 - 2
    assert not any(item.clipped for item in source.objects)
