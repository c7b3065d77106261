"""Class folders and list files: three layouts, and files that do not belong there."""

import pytest

from rsft.data.datasets.formats.labeled_files import LabeledFiles
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def entries(root):
    return [
        (file.path.relative_to(root).as_posix(), file.label, file.split)
        for file in LabeledFiles(root).files
    ]


def test_class_folders_at_the_top_all_count_as_train(tmp_path):
    touch(tmp_path, "b/1.jpg", "a/deep/er/2.PNG", "stray.png")
    touch(tmp_path, "a/notes.txt", "SOURCE.txt", "a/.hidden.png", ".git/x.png")
    assert entries(tmp_path) == [
        ("a/deep/er/2.PNG", "a", "train"),
        ("b/1.jpg", "b", "train"),
    ]
    folder = LabeledFiles(tmp_path)
    assert folder.layout == "class folders" and folder.classes == ["a", "b"]
    assert folder.skipped == {
        "not an image by its name": 3,
        "image outside the class folders": 1,
    }


def test_split_folders_are_kept(tmp_path):
    touch(tmp_path, "train/10/1.jpg", "train/9/1.jpg", "valid/9/2.jpg", "test/10/3.jpg")
    assert [split for _, _, split in entries(tmp_path)] == [
        "train",
        "train",
        "val",
        "test",
    ]
    assert LabeledFiles(tmp_path).classes == ["9", "10"]


def test_lists_have_precedence_and_allow_backslash_bom_and_crlf(tmp_path):
    touch(
        tmp_path,
        "train/0/1.jpg",
        "train/0/not listed.jpg",
        "val/1/2.jpg",
        "with space.jpg",
    )
    (tmp_path / "train.txt").write_bytes(
        "\ufeff0/1.jpg 0\r\n\r\nwith space.jpg\t7\r\n".encode()
    )
    (tmp_path / "val.txt").write_text("1\\2.jpg 1\n")
    expected = [
        ("train/0/1.jpg", "0", "train"),
        ("with space.jpg", "7", "train"),
        ("val/1/2.jpg", "1", "val"),
    ]
    assert entries(tmp_path) == expected


def test_rows_that_cannot_be_used_are_listed_with_their_line(tmp_path):
    touch(tmp_path, "1.jpg")
    (tmp_path / "train.txt").write_text("1.jpg 0\nlonely\ngone.jpg 0\n1.jpg 1\n")
    folder = LabeledFiles(tmp_path)
    assert len(folder.files) == 1
    assert [(line, reason) for _, line, reason in folder.rejected] == [
        (2, "a row is `path label`"),
        (3, f"the file does not exist: {tmp_path}/train/gone.jpg"),
        (4, "1.jpg is already listed in line 1"),
    ]


def test_labels_and_paths_that_would_leave_the_store_are_listed(tmp_path):
    touch(tmp_path / "src", "1.jpg", "2.jpg", "飞 机/3 4.jpg")
    touch(tmp_path, "secret.jpg")
    rows = (
        "1.jpg 0",
        "2.jpg -1",
        "2.jpg ..",
        "2.jpg a/b",
        "../secret.jpg 0",
        f"{tmp_path}/secret.jpg 0",
    )
    (tmp_path / "src/train.txt").write_text(
        "\n".join([*rows, "./1.jpg 0", "飞 机/3 4.jpg 1"]), "utf-8"
    )
    folder = LabeledFiles(tmp_path / "src")
    assert entries(tmp_path / "src") == [
        ("1.jpg", "0", "train"),
        ("飞 机/3 4.jpg", "1", "train"),
    ]
    assert [(line, reason) for _, line, reason in folder.rejected] == [
        (2, "label -1: a class number must be 0 or more"),
        (3, "label .. cannot name a class"),
        (4, "label a/b cannot name a class"),
        (5, "../secret.jpg leaves the folder"),
        (6, f"{tmp_path}/secret.jpg leaves the folder"),
        (7, "1.jpg is already listed in line 1"),
    ]


def test_a_class_may_be_called_train_and_an_empty_one_is_counted(tmp_path):
    touch(tmp_path, "train/1.png", "tractor/2.png", "val/notes.txt")
    folder = LabeledFiles(tmp_path)
    assert folder.layout == "class folders" and folder.classes == ["tractor", "train"]
    assert folder.skipped == {
        "not an image by its name": 1,
        "class without a usable image: val": 1,
    }


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(RequestError, match=mentions("folder does not exist")):
        LabeledFiles(tmp_path / "absent")
    with pytest.raises(RequestError, match="no labeled image"):
        LabeledFiles(tmp_path)


def test_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        LabeledFiles(tmp_path)


@pytest.mark.realdata
def test_mstar_lists_name_all_its_chips(shared):
    folder = LabeledFiles(shared("mstar_soc10"))
    splits = [file.split for file in folder.files]
    assert folder.layout == "lists" and folder.classes == [
        str(index) for index in range(10)
    ]
    assert (splits.count("train"), splits.count("val"), folder.rejected) == (
        2747,
        2425,
        [],
    )
