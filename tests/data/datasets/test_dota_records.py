"""Records of crops of DOTA."""

import pytest

from rsft.data.datasets.dota import DOTAObjects
from rsft.data.datasets.dota_records import LISTS, list_crop_records, make_crop_record
from rsft.errors import DataError, RequestError
from tests.data.datasets.dota.data import row, write_pair

ROWS = row(10, 10, 30, 20) + row(-5, 5, 20, 20, "ship", 1)


def test_a_record_has_the_flags_of_object_and_image(tmp_path):
    pixels = write_pair(tmp_path, ROWS)
    plane, ship = DOTAObjects(tmp_path).objects
    record = make_crop_record(ship, "val", "1.0")
    assert record.extra_columns["flags"] == "clipped,difficult"
    assert (record.name, record.split, record.line) == ("P1_0_5_20_20", "val", 2)
    assert (record.read_pixels() == pixels[5:20, :20]).all()
    assert make_crop_record(plane, "val", "1.0").extra_columns["flags"] == ""


def test_listed_rows_are_repeated_and_missing_objects_are_rejected(tmp_path):
    write_pair(tmp_path / "src", ROWS)
    listed = "train/plane/P1_10_10_30_20.png 0\n"
    other = "train/ship/P1_1_2_3_4.png 1\n"
    for name in LISTS.values():
        (tmp_path / name).write_text(listed * 2 + other)
    dataset = DOTAObjects(tmp_path / "src", min_size=1)
    records = list_crop_records(dataset, tmp_path, "1.0")
    assert [(record.split, record.name) for record in records] == [
        ("train", "P1_10_10_30_20"),
        ("val", "P1_10_10_30_20"),
        ("train", "P1_10_10_30_20__2"),
        ("val", "P1_10_10_30_20__2"),
    ]
    assert records[2].extra_columns["flags"] == "repeated-row"
    assert [line for _, line, _ in dataset.rejected] == [3, 3]
    assert dataset.skipped["object in no list"] == 1
    for name in LISTS.values():
        (tmp_path / name).write_text(other)
    with pytest.raises(DataError, match="no row of the lists"):
        list_crop_records(dataset, tmp_path, "1.0")
    (tmp_path / LISTS["val"]).unlink()
    with pytest.raises(RequestError, match="is missing"):
        list_crop_records(dataset, tmp_path, "1.0")
