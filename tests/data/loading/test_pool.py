"""Chips without labels: what is left out, so that no run learns from its validation and
test chips."""

import json
import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rsft.data.chips import chip_content
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.stretch import IDENTITY_STRETCH, Stretch
from rsft.data.loading import packing, pool
from rsft.data.loading.pool import open_pool
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions
from tests.helpers.pool_chips import make_store, pixels, write
from tests.helpers.scenes import write_geotiff

CONTRACT = Contract(
    units={"uint8": (IDENTITY_STRETCH,)},
    bands=("gray",),
    planes=("gray",),
    crop=None,
    size=32,
    mean=(0.5,),
    std=(0.25,),
)


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(
        packing, "user_cache_path", lambda name: tmp_path / "cache" / name
    )
    return tmp_path / "cache/rsft/unlabeled"


@pytest.fixture
def store(tmp_path):
    columns = {"group_key": {4: "scene 4", 6: "scene 6"}, "mmsi": {5: "211000005"}}
    return make_store(
        tmp_path / "ships",
        {"train": (0, 1, 2, 3), "val": (4, 5), "test": (6, 7)},
        **columns,
    )


@pytest.fixture
def folder(tmp_path):
    """Four chips that the store does not have."""
    target = tmp_path / "archive 数据"
    (target / "deep").mkdir(parents=True)
    for seed in (20, 21, 22, 23):
        write(target / ("deep" if seed % 2 else "") / f"{seed}.png", pixels(seed))
    return target


def test_a_folder_is_searched_recursively(store, folder):
    (folder / "notes.txt").write_text("no image")
    result = open_pool(str(folder), store, CONTRACT)
    assert [image[:, :, 0].tolist() for image in result.chips.images] == [
        pixels(seed)[:, :, 0].tolist() for seed in (20, 22, 21, 23)
    ]
    assert result.left_out == {} and result.describe() == "4 unlabeled chips"
    assert result.chips.labels.tolist() == [-1] * 4 and len(result.sha256) == 64
    assert result.metadata() == {"chips": 4, "sha256": result.sha256, "left_out": {}}


def test_a_glob_pattern(store, folder):
    (folder / "deep/more").mkdir()
    write(folder / "deep/more/24.png", pixels(24))
    names = {
        pattern: open_pool(str(folder / pattern), store, CONTRACT).chips.names
        for pattern in ("*.png", "d*/2*")
    }
    assert names == {"*.png": ["20", "22"], "d*/2*": ["21", "23"]}
    assert open_pool(str(folder / "**/*.png"), store, CONTRACT).chips.names == [
        "20",
        "22",
        "21",
        "23",
        "24",
    ]
    assert open_pool(str(folder / "de*"), store, CONTRACT).chips.names == [
        "21",
        "23",
        "24",
    ]


def test_a_chip_store_gives_no_labels(store, tmp_path):
    other = make_store(tmp_path / "other", {"train": (20, 21), "test": (22,)})
    result = open_pool(str(other.root), store, CONTRACT)
    assert sorted(result.chips.names) == ["test22", "train20", "train21"]
    assert result.chips.labels.tolist() == [-1] * 3 and set(
        result.chips.table["class"]
    ) == {""}
    image = result.chips.full_size_image(0)
    np.testing.assert_array_equal(
        image, read_chip(other.root / result.chips.table["path"][0])
    )


def test_the_folder_in_which_a_command_runs(store, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert (
        len(open_pool(".", store, CONTRACT).chips)
        == len(open_pool("deep", store, CONTRACT).chips) * 2
        == 4
    )
    monkeypatch.chdir(store.root)  # a folder with a manifest
    assert len(open_pool(str(folder), store, CONTRACT).chips) == 4


def evaluated(store):
    return [
        store.root / path
        for path in store.table.loc[store.table["split"] != "train", "path"]
    ]


def add_copies(store, folder):
    """Add copies of all validation and test chips: of the files, re-encoded, and
    changed a little."""
    for number, path in enumerate(evaluated(store)):
        image = read_chip(path)
        shutil.copy(path, folder / f"0-copy-{number}.png")
        cv2.imwrite(str(folder / f"1-bmp-{number}.bmp"), image)
        cv2.imwrite(
            str(folder / f"2-png-{number}.png"),
            image,
            [cv2.IMWRITE_PNG_COMPRESSION, number % 2],
        )
        write(folder / f"3-jpeg-{number}.jpg", image)
        write(
            folder / f"4-png-of-jpeg-{number}.png",
            cv2.imread(str(folder / f"3-jpeg-{number}.jpg"), 0),
        )
        write(
            folder / f"5-brighter-{number}.png",
            np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8),
        )


def test_evaluated_chips_and_their_copies_are_left_out(store, folder):
    expected = open_pool(str(folder), store, CONTRACT)
    add_copies(store, folder)
    # its hash is missing beside those of 64 bits
    (folder / "damaged.png").write_bytes(b"\x89PNG")
    result = open_pool(str(folder), store, CONTRACT)
    assert result.sha256 == expected.sha256
    np.testing.assert_array_equal(result.chips.images, expected.chips.images)
    assert result.left_out[pool.IS_EVALUATED] + result.left_out[pool.IS_SIMILAR] == 24
    assert (
        result.left_out[pool.IS_EVALUATED] >= 12 and sum(result.left_out.values()) == 25
    )


def test_png_of_a_jpeg_that_is_evaluated(store, folder):
    row = store.table[store.table["split"] == "val"].iloc[0]
    jpeg = cv2.imdecode(np.frombuffer(cv2.imencode(".jpg", pixels(4))[1], np.uint8), 0)
    write(store.root / row["path"], jpeg)
    write(folder / "same.png", jpeg)
    assert open_pool(str(folder), store, CONTRACT).left_out == {pool.IS_EVALUATED: 1}


def test_chips_of_an_evaluated_scene_or_vessel_are_left_out(store, tmp_path):
    seeds = (20, 21, 22, 23)
    columns = {
        "group_key": {20: "scene 4", 21: "scene 6", 23: "scene 9"},
        "mmsi": {22: "211000005", 23: ""},
    }
    other = make_store(tmp_path / "other", {"train": seeds}, **columns)
    result = open_pool(str(other.root), store, CONTRACT)
    assert result.chips.names == ["train23"] and result.left_out == {
        pool.IS_SAME_SCENE: 3
    }


def test_a_chip_that_is_left_out_does_not_replace_a_copy(store, tmp_path):
    """The pool is the same with and without chips of evaluated scenes."""
    other = make_store(
        tmp_path / "other", {"train": (20, 22)}, group_key={20: "scene 4"}
    )
    table = other.table.copy()
    row = table[table["name"] == "train22"].iloc[0]
    write(other.root / row["path"], pixels(20))
    from rsft.utils.atomic_files import sha256

    table.loc[table["name"] == "train22", "sha256"] = sha256(other.root / row["path"])
    table.to_parquet(other.root / "manifest.parquet")
    assert open_pool(str(other.root), store, CONTRACT).chips.names == ["train22"]


def test_training_chips_and_repeated_chips_are_left_out(store, folder):
    shutil.copy(store.root / store.split("train")["path"][0], folder / "labeled.png")
    cv2.imwrite(str(folder / "zz.bmp"), pixels(20))
    result = open_pool(str(folder), store, CONTRACT)
    assert len(result.chips) == 4 and result.left_out == {
        pool.IS_LABELED: 1,
        pool.IS_REPEATED: 1,
    }
    assert (
        "1 x training chip" in result.describe()
        and "1 x same content" in result.describe()
    )


def test_the_data_set_itself_has_no_further_chips(store):
    reasons = mentions(f"4 x {pool.IS_LABELED}", f"4 x {pool.IS_EVALUATED}")
    with pytest.raises(RequestError, match=reasons) as caught:
        open_pool(str(store.root), store, CONTRACT)
    assert caught.value.location == str(store.root)


def test_damaged_files_are_counted_by_fault(store, folder):
    (folder / "empty.png").write_bytes(b"")
    (folder / "empty2.png").write_bytes(b"")
    (folder / "text.tif").write_text("no image")
    result = open_pool(str(folder), store, CONTRACT)
    assert len(result.chips) == 4 and sorted(result.left_out.values()) == [1, 2]
    assert result.left_out["the file is empty"] == 2
    for path in folder.rglob("2?.png"):
        path.unlink()
    with pytest.raises(
        RequestError, match=mentions("no chip", "2 x the file is empty")
    ):
        open_pool(str(folder), store, CONTRACT)


def test_constant_chips(store, folder):
    write(folder / "black.png", np.zeros((32, 32), np.uint8))
    result = open_pool(str(folder), store, CONTRACT)
    assert len(result.chips) == 4 and result.left_out == {"every pixel is 0": 1}


@pytest.mark.parametrize("source", ["missing", "missing/*.png", "archive 数据/*.tif"])
def test_nothing_that_matches(store, folder, source):
    source = folder.parent / source
    with pytest.raises(RequestError, match="glob") as caught:
        open_pool(str(source), store, CONTRACT)
    assert caught.value.location == str(source)


def test_a_folder_without_images(store, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("x")
    with pytest.raises(RequestError, match="no chips") as caught:
        open_pool(str(tmp_path / "empty"), store, CONTRACT)
    assert ".png" in caught.value.hint


def test_an_unnamed_file_has_the_band_of_the_data_set(store, folder):
    write(folder / "gray in RGB.png", pixels(24, bands=3))
    write(
        folder / "color.png",
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8),
    )
    is_hh = {"bands": ("HH",), "planes": ("HH",)}
    pool = open_pool(
        str(folder), replace(store, bands=("HH",)), CONTRACT.model_copy(update=is_hh)
    )
    assert set(pool.chips.table["bands"]) == {"HH"}
    assert len(pool.chips) == 5 and "color" not in pool.chips.names
    assert pool.left_out == {"3 bands, but names for 1 (HH)": 1}
    gray = [pool.chips.names.index(name) for name in ("gray in RGB", "20")]
    expected = [CONTRACT.to_image(pixels(seed)) for seed in (24, 20)]
    np.testing.assert_array_equal(pool.chips.images[gray], expected)


def test_a_file_that_names_its_bands_in_another_order_is_left_out(store, folder):
    both = replace(store, bands=("VV", "VH"))
    is_dual = {"bands": both.bands, "planes": ("VV",), "mean": (0.5,), "std": (0.25,)}
    contract = CONTRACT.model_copy(update=is_dual)
    for seed, names in ((30, ("VV", "VH")), (31, ("VH", "VV"))):
        image = np.stack([pixels(seed)[:, :, 0], pixels(seed + 2)[:, :, 0]])
        write_geotiff(folder / f"{seed}.tif", image, names=names)
    pool = open_pool(str(folder), both, contract)
    assert pool.chips.names == ["30"]
    assert pool.left_out == {
        "1 bands, but names for 2 (VV, VH)": 4,
        "the file names its bands VH, VV, not VV, VH": 1,
    }


def test_a_chip_store_of_other_bands_is_refused(store, tmp_path):
    other = make_store(tmp_path / "other", {"train": (30, 31)})
    named = replace(store, bands=("HH",))
    with pytest.raises(DataError, match=mentions("bands gray", "has HH")) as caught:
        open_pool(str(other.root), named, CONTRACT)
    assert "prepare the chips like" in caught.value.hint


def test_another_unit_is_refused(store, folder):
    path = folder / "deep/16 bit.png"
    cv2.imwrite(str(path), pixels(24).astype(np.uint16) * 200)
    with pytest.raises(DataError, match=mentions("uint16", "takes uint8")) as caught:
        open_pool(str(folder), store, CONTRACT)
    assert caught.value.location == str(path)
    both = CONTRACT.model_copy(
        update={"units": CONTRACT.units | {"uint16": (Stretch(high=51_000),)}}
    )
    assert len(open_pool(str(folder), store, both).chips) == 5


def test_another_spacing_is_refused(store, tmp_path):
    other = make_store(
        tmp_path / "other", {"train": (20, 21)}, spacing_m={20: 10.0, 21: 3.0}
    )
    with pytest.raises(DataError, match=mentions("3 m", "10 m")) as caught:
        open_pool(
            str(other.root), store, CONTRACT.model_copy(update={"spacing_m": 10.0})
        )
    assert caught.value.location.endswith(
        "train21.png"
    ) and caught.value.location.startswith(str(other.root))
    # the spacing of the training is unknown
    assert len(open_pool(str(other.root), store, CONTRACT).chips) == 2


def test_a_test_chip_that_is_missing_here_is_known_from_the_manifest(store, folder):
    path = evaluated(store)[-1]
    path.rename(folder / "moved.png")
    assert open_pool(str(folder), store, CONTRACT).left_out == {pool.IS_EVALUATED: 1}


def count_reads(monkeypatch):
    read = []
    monkeypatch.setattr(
        chip_content,
        "read_chip",
        lambda path: read.append(path.name) or read_chip(path),
    )
    return read


def test_files_are_hashed_once(store, folder, monkeypatch, user_cache):
    first = open_pool(str(folder), store, CONTRACT)
    read = count_reads(monkeypatch)
    assert open_pool(str(folder), store, CONTRACT).sha256 == first.sha256 and read == []
    (file,) = (store.root / ".cache").glob("contents-*.json")
    assert (
        len(json.loads(file.read_text())["3"]) == 4
        and len(list(user_cache.glob("contents-*.json"))) == 1
    )
    file.write_text("{damaged")
    assert (
        open_pool(str(folder), store, CONTRACT).sha256 == first.sha256
        and len(read) == 4
    )


def test_the_cache_of_pools_keeps_the_newest_files(
    store, folder, monkeypatch, user_cache
):
    # a limit of the cache, small enough for a test
    monkeypatch.setattr(packing, "_KEPT_UNLABELED", 2)
    kept = []
    for number in range(4):
        write(folder / f"{30 + number}.png", pixels(30 + number))
        file = open_pool(str(folder), store, CONTRACT).chips.cache_file
        os.utime(file, (1000 + number, 1000 + number))
        kept.append(file.name)
    # two, and the new one
    assert sorted(path.name for path in user_cache.glob("*.npy")) == sorted(kept[-3:])
    assert len(open_pool(str(folder), store, CONTRACT).chips) == 8


def test_a_changed_file_is_hashed_again(store, folder, monkeypatch):
    first = open_pool(str(folder), store, CONTRACT)
    read = count_reads(monkeypatch)
    write(folder / "20.png", pixels(30))
    second = open_pool(str(folder), store, CONTRACT)
    assert read == ["20.png"] and second.sha256 != first.sha256
    np.testing.assert_array_equal(second.chips.images[0], pixels(30))


def test_a_fault_is_not_kept(store, folder, monkeypatch):
    """A file that cannot be opened may be read later without a change of its time."""
    with monkeypatch.context() as patch:
        patch.setattr(
            pool,
            "make_chip",
            lambda record: (_ for _ in ()).throw(
                PermissionError(13, "Permission denied")
            ),
        )
        with pytest.raises(RequestError, match="4 x Permission denied"):
            open_pool(str(folder), store, CONTRACT)
    assert len(open_pool(str(folder), store, CONTRACT).chips) == 4


def test_two_processes_give_the_same_pool(store, folder, monkeypatch):
    first = open_pool(str(folder), store, CONTRACT)
    for file in (store.root / ".cache").glob("contents-*.json"):
        file.unlink()
    write(folder / "24.png", pixels(24))
    # a limit of speed, small enough for a test
    monkeypatch.setattr(pool, "_MIN_CHIPS_FOR_TWO_JOBS", 1)
    calls = []
    second = open_pool(
        str(folder), store, CONTRACT, lambda *progress: calls.append(progress)
    )
    assert (
        second.chips.names == ["20", "22", "24", "21", "23"]
        and second.sha256 != first.sha256
    )
    assert (5, 5, "reading unlabeled and validation chips") in calls
