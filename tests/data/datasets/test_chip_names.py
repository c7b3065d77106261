"""Unique names of chips."""

from pathlib import Path

from rsft.data.datasets.chip_names import full_chip_name, make_chip_names


def test_names_that_a_group_shares_contain_their_folders():
    root = Path("root")
    paths = ["root/a/1.png", "root/b/1.png", "root/b/2.png", "root/c/1.png"]
    names = make_chip_names(paths, ["x", "x", "x", "y"], root)
    assert list(names) == ["a__1_png", "b__1_png", "2", "1"]
    assert full_chip_name(Path("root/a.b/1.png"), root) == "a_b__1_png"
