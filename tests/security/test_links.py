"""Links in a named folder open nothing and hide nothing: a tree gives the same with and
without the cell, or an error.

The trees are those of people: class folders elsewhere, stores of objects, loops, and
those of a stranger.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rsft.cli import reading
from rsft.data.datasets.formats.labeled_files import LabeledFiles
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.scenes.inputs import find_chips
from rsft.scenes.preparation.builder import open_scenes
from rsft.utils.cell.walls import landlock_version
from rsft.utils.command_options import Access
from tests.security.carriers import contains_secret

HEADER = (
    "ENVI\nsamples = 64\nlines = {}\nbands = 1\nheader offset = 0\nfile type = ENVI"
    " Standard\ndata type = 1\ninterleave = bsq\n"
)


def write_chips(folder, count):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(str(folder)))
    for number in range(count):
        cv2.imwrite(
            str(folder / f"{folder.parent.name}-{folder.name}-{number}.png"),
            rng.integers(1, 255, (16, 16), np.uint8),
        )


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Class folders with 8 chips, and 6 chips and 6 objects without suffix elsewhere.
    The tests add links."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    # it is read from the environment again
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    write_chips(tmp_path / "tree/train/tanker", 4)
    write_chips(tmp_path / "tree/val/tanker", 2)
    write_chips(tmp_path / "tree/val/cargo", 2)
    write_chips(tmp_path / "far/cargo", 6)
    (tmp_path / "far/objects").mkdir()
    for number, path in enumerate(sorted((tmp_path / "far/cargo").iterdir())):
        (tmp_path / f"far/objects/{number}").write_bytes(path.read_bytes())
    return tmp_path / "tree"


def count_chips(command, folders, is_fenced):
    """Return the number of chips that can be read, or the error that ends the
    command."""
    try:
        if is_fenced:
            reading.open_reading_cell([(Access.READ, x) for x in folders])
        if command == "folder":
            paths = [Path(file.name) for file in LabeledFiles(folders[0]).files]
        else:
            paths = list(map(Path, find_chips(folders)[0]))
        return sum(map(is_readable, paths))
    except RequestError as error:
        return str(error)


def is_readable(path):
    try:
        return read_chip(path).size > 0
    except DataError:
        return False


def in_a_process(function, *arguments):
    """Call a function in a process of its own, which may open a cell."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def link_class_folder(tree):
    (tree / "train/cargo").symlink_to(tree.parent / "far/cargo")
    return 14


def link_objects(tree):
    (tree / "train/cargo").mkdir()
    for number in range(6):
        (tree / f"train/cargo/{number}.png").symlink_to(
            tree.parent / f"far/objects/{number}"
        )
    return 14


def link_inside(tree):
    (tree / "train/cargo").symlink_to("../val/cargo")
    return 10


def link_in_circles(tree):
    (tree / "train/tanker/loop").symlink_to(tree)
    (tree / "train/tanker/again").symlink_to(".")
    (tree / "train/tanker/circle.png").symlink_to("circle.png")
    (tree / "train/tanker/gone.png").symlink_to("/gone/gone.png")
    return 8


TREES = {
    link_class_folder: "train/cargo",
    link_objects: "train/cargo/",
    link_inside: "",
    link_in_circles: "",
}
"""Trees, and the link that is refused."""


@pytest.mark.parametrize("command", ["folder", "predict"])
@pytest.mark.parametrize("build", TREES)
def test_the_cell_takes_no_chip_away(tree, build, command, monkeypatch):
    expected = build(tree)
    if build is link_inside and command == "predict":
        expected = 8  # a file with two names is one chip
    assert in_a_process(count_chips, command, [tree], False) == expected
    fenced = in_a_process(count_chips, command, [tree], True)
    if not TREES[build]:
        assert fenced == expected
        return
    assert f"{tree}/{TREES[build]}" in fenced and "RSFT_FENCE=" in fenced
    monkeypatch.setattr(reading, "TRUSTED", (tree.parent / "far",))
    assert in_a_process(count_chips, command, [tree], True) == expected


def test_a_further_input_is_a_way_out(tree):
    expected = link_class_folder(tree)
    folders = [tree, tree.parent / "far/cargo"]
    assert in_a_process(count_chips, "predict", folders, True) == expected + 6


@pytest.mark.parametrize("target", ["/", "..", "/root"])
def test_a_link_of_a_stranger_opens_nothing(tree, target):
    (tree / "x").symlink_to(target)
    assert "does not read it" in in_a_process(count_chips, "predict", [tree], True)


def read_elsewhere(bundle, path):
    reading.open_reading_cell([(Access.BUNDLE, bundle)])
    try:
        return read_chip(path).size
    except RequestError:
        return "hidden"


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
def test_a_link_in_a_bundle_opens_nothing(tree):
    (tree / ".x").symlink_to("/")
    assert in_a_process(read_elsewhere, tree, tree.parent / "far/objects/0") == "hidden"


def read_hidden(folder, path):
    reading.open_reading_cell([(Access.READ, folder)])
    try:
        return read_chip(path).size
    except RequestError as error:
        return str(error)


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
def test_a_hidden_chip_of_a_table_is_no_rejected_chip(tree):
    path = tree.parent / "far/objects/0"
    assert str(path) in in_a_process(read_hidden, tree, path)


def test_an_unreadable_folder_is_an_error(tree, monkeypatch):
    def scan(path):
        if Path(path).name == "cargo":
            raise PermissionError(13, "Permission denied", str(path))
        return os_scandir(path)

    os_scandir = os.scandir
    monkeypatch.setattr("os.scandir", scan)
    for command in ("folder", "predict"):
        assert f"{tree}/val/cargo" in count_chips(command, [tree], False)


def test_scenes_in_linked_folders_are_read(tree):
    (tree / "val/more").symlink_to(tree.parent / "far/cargo")
    assert sum(1 for _ in open_scenes([tree], None, None)) == 14


def test_values_of_another_folder_are_no_raster(tmp_path):
    """The bytes of a private file would be the pixels of the chips, without any
    walls."""
    for name in ("far", "deliver"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "far/key"
    secret.write_bytes(
        bytes(np.random.default_rng(5).integers(1, 255, 64 * 64, np.uint8))
    )
    (tmp_path / "deliver/a.img").symlink_to(secret)
    (tmp_path / "deliver/a.hdr").write_text(HEADER.format(64))
    with pytest.raises(DataError, match="another folder"):
        list(open_scenes([tmp_path / "deliver"], None, None))
    for name in ("a.img", "a.hdr"):  # of the same folder: an honest pair of links
        (tmp_path / f"far/{name}").write_bytes(
            (tmp_path / f"deliver/{name}").read_bytes()
        )
        (tmp_path / f"deliver/{name}").unlink()
        (tmp_path / f"deliver/{name}").symlink_to(tmp_path / f"far/{name}")
    assert len(list(open_scenes([tmp_path / "deliver"], None, None))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("has_link", [True, False])
def test_a_delivered_folder_gets_no_key_into_chips(tmp_path, monkeypatch, has_link):
    evil = tmp_path / "evil"
    key = tmp_path / "home/.ssh/id_rsa"
    for folder in (evil, key.parent, tmp_path / "temporary", tmp_path / "out"):
        folder.mkdir(parents=True)
    text = ("TOPSECRET" + "-0123456789-abcdefghijklmnopqrstuvwxyz-" * 200).encode()
    key.write_bytes(text)
    (evil / "a.img").symlink_to(key)
    (evil / "a.hdr").write_text(HEADER.format(len(text) // 64))
    rows = "16,16,cargo\n16,48,cargo\n32,32,tanker\n40,48,tanker\n"
    (evil / "a.csv").write_text(f"row,col,class\n{rows}")
    if has_link:
        (evil / "x").symlink_to("/")
    options = [
        "--at",
        str(evil),
        "--root",
        str(tmp_path / "out/store"),
        "--split",
        "object",
        "--min-size",
        "1",
    ]
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = [sys.executable, "-m", "rsft", "prepare", "scenes", str(evil), *options]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode in (1, 2) and str(evil) in process.stderr
    assert contains_secret(tmp_path / "out") == []
