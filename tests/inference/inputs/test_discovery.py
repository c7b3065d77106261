"""Find chips by file, folder and glob."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rsft.errors import DataError, RequestError
from rsft.inference.inputs.chip_files import ChipListing, find_chips, find_scenes
from rsft.inference.options import Declaration
from tests.helpers.messages import mentions


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_find_chips(inputs: list[str], chips: list[str], skipped: int) -> None:
    listing = find_chips([Path(name) for name in inputs])
    assert ([str(path) for path in listing.chips], listing.skipped) == (chips, skipped)


def test_absolute_glob(tmp_path: Path) -> None:
    assert find_chips([tmp_path / "c" / "*.png"]).chips == [tmp_path / "c" / "b.png"]


@pytest.mark.parametrize("name", ["absent.png", "c/*.jpg", "c/a**b"])
def test_missing_input(name: str) -> None:
    with pytest.raises(RequestError, match="no such file"):
        find_chips([Path("c"), Path(name)])


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="no chips"):
        find_chips([Path("empty")])


def test_figures_of_a_chip_store_are_not_chips(root: Path, tmp_path: Path) -> None:
    store = shutil.copytree(root, tmp_path / "store")
    (store / "chips/train/flat/stray.png").touch()
    assert len(find_chips([store]).chips) == 58
    listing = find_chips([root])
    assert len(listing.chips) == 58
    assert {path.relative_to(root).parts[0] for path in listing.chips} == {"chips"}


def test_declared_bands_that_contradict_a_chip_store() -> None:
    chip = Path("store/chips/a.tif")
    listing = ChipListing([chip], 0, {chip: Declaration("db", ("VH", "VV"), 10.0)})
    assert listing.declare(Declaration("sigma0")) == {chip: Declaration("sigma0", ("VH", "VV"), 10.0)}
    with pytest.raises(DataError, match=mentions("bands VH, VV", "VV, VH was declared")):
        listing.declare(Declaration(bands=("VV", "VH")))


def test_find_scenes() -> None:
    Path("scenes.txt").write_text("# comment\nc/*.png\nhttps://h.org/a.tif?x=[1]\ns3://b/k.tif\nd/x[1].png\n")
    inputs = ["./c/b.png", "@scenes.txt", Path("absent.tif"), "NETCDF:a.nc:VV", "/vsizip/z.zip/a*.tif", "d/*"]
    assert [uri.text for uri in find_scenes(inputs)] == [
        "c/b.png", "c/b.png", "https://h.org/a.tif?x=[1]", "s3://b/k.tif", "d/x[1].png", "absent.tif",
        "NETCDF:a.nc:VV", "/vsizip/z.zip/a*.tif", "d/x[1].png",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="no such file"):
        find_scenes(["c/*.jpg"])
    with pytest.raises(RequestError, match=mentions("list cannot be read")):
        find_scenes(["@absent.txt"])


@pytest.mark.parametrize("name", ["https://h.org/a.png?sig=1", "/vsizip/z.zip/a.png", "NETCDF:a.nc:VV"])
def test_an_address_is_a_scene(name: str) -> None:
    with pytest.raises(RequestError, match=mentions("files or folders", "--grid")) as caught:
        find_chips(["c", name])
    assert "sig" not in str(caught.value)
