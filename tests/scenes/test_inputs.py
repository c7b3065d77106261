"""Find chips and scenes in folders, chip stores, globs and lists."""

import json
import shutil
from pathlib import Path

import pytest

from rsft.errors import DataError, RequestError
from rsft.scenes import inputs
from rsft.scenes.inputs import find_chips, find_scenes
from rsft.scenes.options import Declaration
from tests.helpers.messages import mentions


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    for name in ("c/b.png", "c/deep/a.TIF", "c/notes.txt", "c/deep/raw", "d/x[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "chips", "skipped"),
    [
        (["c"], ["c/b.png", "c/deep/a.TIF"], 2),
        (["c/deep/raw", "c"], ["c/b.png", "c/deep/a.TIF", "c/deep/raw"], 1),
        (["c/*.txt"], ["c/notes.txt"], 0),
        (["**/*.png", "c/b.png"], ["c/b.png", "d/x[1].png"], 0),
        (["?"], ["c/b.png", "c/deep/a.TIF", "d/x[1].png"], 2),
        (["d/x[1].png"], ["d/x[1].png"], 0),
    ],
)
def test_find_chips(inputs, chips, skipped):
    found, others = find_chips([Path(name) for name in inputs])
    assert (list(found), others) == (chips, skipped)


def test_chips_are_sorted_by_folder_and_name():
    paths = [
        Path(name) for name in ("d/e/f.png", "d/e.png", "d/e-1/f.png", "d/e 1.png")
    ]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(find_chips(["d"])[0]) == [
        str(path) for path in sorted([*paths, Path("d/x[1].png")])
    ]


def test_absolute_glob(tmp_path):
    assert list(find_chips([tmp_path / "c" / "*.png"])[0]) == [
        str(tmp_path / "c" / "b.png")
    ]


@pytest.mark.parametrize("name", ["absent.png", "c/*.jpg", "c/a**b"])
def test_missing_input(name):
    with pytest.raises(RequestError, match="no such file"):
        find_chips([Path("c"), Path(name)])


def test_folder_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no chips"):
        find_chips([Path("empty")])


def test_figures_of_a_chip_store_are_not_chips(root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    (store / "chips/train/flat/stray.png").touch()
    chips, skipped = find_chips([store])
    assert (len(chips), skipped) == (58, 0) and {
        Path(path).relative_to(store).parts[0] for path in chips
    } == {"chips"}


def test_declared_bands_that_contradict_a_chip_store(monkeypatch):
    Path("c/manifest.parquet").touch()
    chip = "c/a.tif"
    monkeypatch.setattr(
        inputs,
        "read_declarations",
        lambda store: {chip: Declaration("db", ("VH", "VV"), 10.0)},
    )
    assert find_chips(["c"], Declaration("sigma0"))[0] == {
        chip: Declaration("sigma0", ("VH", "VV"), 10.0)
    }
    with pytest.raises(DataError, match="names its bands VH, VV, not VV, VH"):
        find_chips(["c"], Declaration(bands=("VV", "VH")))


def test_a_pattern_starts_no_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = {"stac_version": "1.0.0", "assets": {"a": {"href": "a.tif"}}}
    for name, content in (
        ("a.json", item),
        ("b.json", {"assets": []}),
        ("c.json", [1]),
    ):
        Path(name).write_text(json.dumps(content))
    assert [uri.text for uri in find_scenes(["*.json"])] == [
        "a.json",
        "b.json",
        "c.json",
    ]
    Path("list.txt").write_text("[d].json\n")
    for href in (
        "https://example.com/a.tif",
        "s3://bucket/a.tif",
        "/vsicurl/https://example.com/a.tif",
    ):
        Path("d.json").write_text(
            json.dumps(item | {"assets": {"a": {"href": href}}}).replace("h", "\\u0068")
        )
        for pattern in ("*.json", "@list.txt"):
            with pytest.raises(RequestError, match="STAC item with files on a server"):
                list(find_scenes([pattern]))
        assert [uri.text for uri in find_scenes(["d.json"])] == ["d.json"]


def test_find_scenes():
    Path("scenes.txt").write_text(
        "# comment\nc/*.png\nhttps://h.org/a.tif?x=[1]\ns3://b/k.tif\nd/x[1].png\n"
    )
    inputs = [
        "./c/b.png",
        "@scenes.txt",
        Path("absent.tif"),
        "NETCDF:a.nc:VV",
        "/vsizip/z.zip/a*.tif",
        "d/*",
    ]
    assert [uri.text for uri in find_scenes(inputs)] == [
        "c/b.png", "c/b.png", "https://h.org/a.tif?x=[1]", "s3://b/k.tif", "d/x[1].png", "absent.tif",
        "NETCDF:a.nc:VV", "/vsizip/z.zip/a*.tif", "d/x[1].png",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="no such file"):
        list(find_scenes(["c/*.jpg"]))
    with pytest.raises(RequestError, match=mentions("list cannot be read")):
        list(find_scenes(["@absent.txt"]))


def test_the_scenes_of_a_folder():
    assert [uri.text for uri in find_scenes(["c"])] == ["c/b.png", "c/deep/a.TIF"]
    Path("e").mkdir()
    with pytest.raises(RequestError, match=mentions("no scenes", "e", ".jpeg")):
        list(find_scenes(["e"]))


@pytest.mark.parametrize(
    "name", ["https://h.org/a.png?sig=1", "/vsizip/z.zip/a.png", "NETCDF:a.nc:VV"]
)
def test_an_address_is_a_scene(name):
    with pytest.raises(
        RequestError, match=mentions("files or folders", "--grid")
    ) as caught:
        find_chips(["c", name])
    assert "sig" not in str(caught.value)
