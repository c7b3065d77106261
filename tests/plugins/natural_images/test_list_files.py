"""List files of Places-LT and iNaturalist 2018, in miniature."""

import numpy as np
import pytest
from PIL import Image

from rsft.errors import DataError, RequestError
from rsft.plugins.natural_images.list_files import (
    INATURALIST_2018,
    PLACES_LT,
    ListFiles,
    PublishedLists,
    folder_to_class_name,
)
from tests.helpers.messages import mentions

TINY = PublishedLists(
    "Tiny",
    {"train": "train.txt", "val": "val.txt"},
    {"train": 3, "val": 1},
    2,
    PLACES_LT.archive,
)


def read(root):
    return ListFiles(TINY, root)


TRAIN = (
    "data/a/airfield/1.jpg 0",
    "data/a/apartment/outdoor/2.jpg 1",
    "data/a/airfield/3.jpg 0",
)
VAL = ("val/4.jpg 1",)


def write(root, train=TRAIN, val=VAL, absent=""):
    for row in (*train, *val):
        path = root / row.rpartition(" ")[0].replace("\\", "/")
        if (
            path.suffix
            and ".." not in path.parts
            and path.is_relative_to(root)
            and path.name != absent
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(0).integers(
                0, 256, (5, 6, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(path, "PNG")
    (root / "train.txt").write_text("\n".join(train), "utf-8")
    (root / "val.txt").write_text("\n".join(val), "utf-8")
    return root


def reasons(source):
    return [(line, reason) for _, line, reason in source.rejected if line]


def test_classes_are_named_after_their_folders(tmp_path):
    source = read(write(tmp_path))
    assert source.classes == ["airfield", "apartment-outdoor"] and source.rejected == []
    assert source.images[3] == ("val", "val/4.jpg", "apartment-outdoor")
    assert len(source.images) == 4


def test_folder_class():
    names = {
        "train_val2018/Arachnida/5": "Arachnida-5",
        "train/rock_arch": "rock_arch",
        "val_256": "",
    }
    assert {folder: folder_to_class_name(folder) for folder in names} == names


def test_without_folders_classes_are_numbered(tmp_path):
    assert read(write(tmp_path, ("1.jpg 0", "2.jpg 1", "3.jpg 1"))).classes == [
        "class-0",
        "class-1",
    ]


def test_every_faulty_row_is_listed_with_its_line(tmp_path):
    bad = (
        "lonely",
        "data/a/airfield/5.jpg 2",
        "data/a/airfield/6.jpg one",
        "../out.jpg 0",
        "/etc/hostname 0",
    )
    bad += (TRAIN[0], "data/a/airfield/7.jpg 1", "data/a/airfield/gone.jpg 0")
    source = read(write(tmp_path, (*TRAIN, *bad), absent="gone.jpg"))
    assert len(source.images) == 4
    assert reasons(source) == [
        (4, "a row is `path label`:  lonely"),
        (5, "the class number must be 0 to 1: data/a/airfield/5.jpg 2"),
        (6, "the class number must be 0 to 1: data/a/airfield/6.jpg one"),
        (7, "../out.jpg leaves the folder: ../out.jpg 0"),
        (8, "/etc/hostname leaves the folder: /etc/hostname 0"),
        (9, "the path is already listed: data/a/airfield/1.jpg 0"),
        (10, "the folder belongs to another class: data/a/airfield/7.jpg 1"),
        (11, "the file does not exist: data/a/airfield/gone.jpg 0"),
    ]


def test_an_image_of_both_splits_stays_in_training(tmp_path):
    source = read(write(tmp_path, val=(TRAIN[1],)))
    assert [split for split, _, _ in source.images] == ["train"] * 3
    assert source.rejected[-1][0] == str(tmp_path / "val.txt")


def test_crlf_bom_backslashes_spaces_and_chinese(tmp_path):
    write(tmp_path / "飞 机", ("data\\机 场\\1 2.jpg 0", "data/b/2.jpg 1"))
    text = (tmp_path / "飞 机/train.txt").read_text("utf-8")
    (tmp_path / "飞 机/train.txt").write_text(
        "\ufeff" + text.replace("\n", "\r\n\r\n"), "utf-8", newline=""
    )
    source = read(tmp_path / "飞 机")
    assert source.images[0][1] == "data/机 场/1 2.jpg" and source.classes[0] == "机 场"


def test_differences_from_the_published_lists_are_reported(tmp_path):
    source = read(write(tmp_path, TRAIN[:1]))
    assert source.rejected[0] == (
        str(tmp_path / "train.txt"),
        0,
        "1 rows; published: 3",
    )


def test_lists_must_be_in_the_folder(tmp_path):
    write(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(RequestError, match=r"train\.txt is missing"):
        read(tmp_path)


def test_missing_or_unreadable_lists_are_refused(tmp_path):
    with pytest.raises(RequestError, match=mentions("Places_LT_train.txt is missing")):
        ListFiles(PLACES_LT, tmp_path / "absent")
    (tmp_path / "iNaturalist18_train.txt").write_text("train_val2018/Aves/7/x.jpg 7\n")
    with pytest.raises(RequestError) as caught:
        ListFiles(INATURALIST_2018, tmp_path)
    assert "train_val2018/Aves/7/x.jpg" in caught.value.hint
    (tmp_path / "iNaturalist18_train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        ListFiles(INATURALIST_2018, tmp_path)
    (tmp_path / "iNaturalist18_train.txt").write_text("")
    with pytest.raises(RequestError):
        ListFiles(INATURALIST_2018, tmp_path)
