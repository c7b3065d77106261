"""Label files of rotated boxes."""

from rsft.data.datasets.formats.box_labels import (
    build_class_lookup,
    has_box,
    read_label_file,
)

LOOKUP = build_class_lookup(["ore-oil", "Cell-Container"])
BOX = "1 2 3 2 3 4 1 4"


def test_header_rows_and_faults_have_their_lines(tmp_path):
    path = tmp_path / "1.txt"
    path.write_text(f"'gsd': 0.5\n\n{BOX} Ore Oil 1\n{BOX} tug\nkey:value\n")
    header, rows, rejected = read_label_file(path, LOOKUP)
    assert header == {"gsd": "0.5"}
    [row] = rows
    assert (row.line, row.number, row.category, row.difficult) == (3, 1, "ore-oil", 1)
    assert row.box == (1, 2, 3, 2, 3, 4, 1, 4)
    assert [line for _, line, _ in rejected] == [4, 5]
    assert rejected[0][2] == "unknown class tug"


def test_a_file_that_cannot_be_read_is_rejected_as_a_whole(tmp_path):
    (tmp_path / "1.txt").write_bytes(b"\xff")
    assert read_label_file(tmp_path / "1.txt", LOOKUP)[2] == [
        (str(tmp_path / "1.txt"), 0, "the file is not UTF-8 text")
    ]
    [(_, line, reason)] = read_label_file(tmp_path / "absent.txt", LOOKUP)[2]
    assert line == 0 and reason.startswith("the file cannot be read")


def test_the_first_rows_tell_the_format(tmp_path):
    path = tmp_path / "1.txt"
    path.write_text(f"gsd:1\n{BOX} plane 0\n")
    assert has_box(path) and not has_box(path, LOOKUP)
    path.write_text("\n" * 6 + f"{BOX} plane 0\n")
    assert not has_box(path) and not has_box(tmp_path / "absent.txt")
