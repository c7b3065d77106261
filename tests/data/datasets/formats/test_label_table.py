"""CSV tables of paths and classes, with faulty rows."""

import pytest

from rsft.data.datasets.formats.label_table import LabelTable
from rsft.errors import RequestError


def table(folder, *rows, header="path,class,predicted"):
    for name in ("a.tif", "deep/b.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    return path


def test_formulas_are_read_as_they_were_written(tmp_path):
    source = LabelTable(table(tmp_path, "a.tif,'=1+1,x", "deep/b.tif,'ship,x"))
    assert source.classes == ["'ship", "=1+1"]


def test_rows(tmp_path):
    rows = [
        "a.tif,cargo,x",
        f"{tmp_path}/deep/b.tif, tug boat ,x",
        "a.tif,tug,x",
        "gone.tif,tug,x",
        "a.tif,,x",
    ]
    source = LabelTable(table(tmp_path, *rows, "a.tif,../x,x"))
    assert [(file.path, file.label, file.split) for file in source.files] == [
        (tmp_path / "a.tif", "cargo", "train"),
        (tmp_path / "deep/b.tif", "tug boat", "train"),
    ]
    assert source.classes == ["cargo", "tug boat"] and source.root == tmp_path
    assert source.skipped == {
        "row without a class": 1,
        "class without a usable image: tug": 1,
    }
    assert [
        (line, reason.split(str(tmp_path))[0]) for _, line, reason in source.rejected
    ] == [
        (4, "a.tif is already listed in line 2"),
        (5, "the file does not exist: "),
        (7, "label ../x cannot name a class"),
    ]


def test_columns_with_other_names(tmp_path):
    header = "Filename,Ship type,weight"
    source = LabelTable(table(tmp_path, "a.tif,tug,3", header=header))
    assert [(file.name, file.label) for file in source.files] == [
        (f"{tmp_path}/a.tif", "tug")
    ]


def test_splits(tmp_path):
    source = LabelTable(
        table(tmp_path, "a.tif,1,val", "deep/b.tif,1,dev", header="path,class,split")
    )
    assert [file.split for file in source.files] == ["val"]
    assert source.rejected[0][1:] == (
        3,
        "unknown split dev; it must be train, val or test",
    )


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("a,klasse", ["a.tif,x"], "no column path, class; it has a, klasse"),
        ("file,Path,class", ["a.tif,a.tif,"], "no row"),
        ("path,class,Class", ["a.tif,x,y"], "several columns have the name"),
        ("path,class", ["gone.tif,x"], "no row"),
        ("", [], "read"),
    ],
)
def test_refused(tmp_path, header, rows, message):
    with pytest.raises(RequestError, match=message):
        LabelTable(table(tmp_path, *rows, header=header))


def test_verdicts(tmp_path):
    rows = ["a.tif,,not a target", "deep/b.tif,,Unsure", "a.tif,tug,", "deep/b.tif,,"]
    path = table(tmp_path, *rows, header="path,class,verdict")
    source = LabelTable(path)
    assert [file.label for file in source.files] == ["tug"]
    assert source.skipped == {"not a target": 1, "unsure": 1, "row without a class": 1}
    source = LabelTable(path, "clutter")
    assert [file.label for file in source.files] == [
        "clutter"
    ] and source.skipped.total() == 3
    assert [reason for _, _, reason in source.rejected] == [
        "a.tif is already listed in line 2"
    ]
    with pytest.raises(RequestError, match="1 x unsure"):
        LabelTable(table(tmp_path, *rows[1:2], header="path,class,verdict"))


def test_semicolons_and_unknown_verdicts(tmp_path):
    path = table(
        tmp_path, "a.tif;tug;class", "deep/b.tif;tug;maybe", header="path;class;verdict"
    )
    source = LabelTable(path)
    assert [file.path.name for file in source.files] == ["a.tif"]
    assert source.rejected[0][1:] == (
        3,
        "unknown verdict maybe; it must be class, not a target or unsure",
    )
