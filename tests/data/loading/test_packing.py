"""Packed cache of a chip store."""

import errno
import os

import cv2
import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.stretch import Stretch
from rsft.data.loading import packing
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError, RsftError
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.messages import mentions
from tests.helpers.tiny_store import CONTRACT, UNITS, read


def packed(store):
    return sorted((store.root / ".cache").glob("*.npy"))


def test_images_match_the_contract(store):
    chips = read(store)
    assert (
        chips.images.shape == (10, 8, 8, 3)
        and chips.labels.tolist() == [0] * 5 + [1] * 5
    )
    for image, path in zip(chips.images, store.table["path"], strict=True):
        np.testing.assert_array_equal(
            image, CONTRACT.to_image(read_chip(store.root / path))
        )


def test_cached_images_are_not_read_again(store, monkeypatch):
    first = read(store).images
    monkeypatch.setattr(packing, "read_chip", None)
    again = read(store)
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    np.testing.assert_array_equal(first, again.images)
    assert len(packed(store)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"size": 4},
        {"crop": None},
        {"units": UNITS | {"uint16": (Stretch(high=100),) * 3}},
    ],
)
def test_another_contract_has_another_cache(store, change):
    first = read(store)
    second = read(store, CONTRACT.model_copy(update=change))
    assert len(packed(store)) == 2 and not np.array_equal(first.images, second.images)


def test_subset_in_another_order(store):
    whole = read(store).images
    part = ChipImages(store.root, store.table.iloc[[7, 2]], store.classes, CONTRACT)
    np.testing.assert_array_equal(part.images, whole[[7, 2]])


def test_cache_of_another_manifest_is_removed(store):
    read(store)
    store.table.iloc[:6].to_parquet(store.root / "manifest.parquet")
    assert len(read(ChipStore.open(store.root))) == 6
    assert len(packed(store)) == 1


def test_temporary_file_of_a_killed_process_is_removed(store):
    def read_and_die():
        packing._pack_chunk = kill_this_process  # in its own process
        read(store)

    run_until_killed(read_and_die)
    (stale,) = (store.root / ".cache").rglob("*.npy")
    read(store)
    assert [*(store.root / ".cache").rglob("*.npy")] == packed(store) != [stale]


def test_two_processes_give_the_same_bytes(store, monkeypatch):
    read(store)
    (path,) = packed(store)
    first = path.read_bytes()
    path.unlink()
    # a limit of speed, small enough for a test
    monkeypatch.setattr(packing, "_MIN_CHIPS_FOR_TWO_JOBS", 1)
    # a limit of memory, small enough for a test
    monkeypatch.setattr(packing, "_CHUNK", 3)
    read(store)
    assert path.read_bytes() == first


def test_read_only_root_is_cached_in_the_user_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "user_cache_path", lambda name: tmp_path / name)
    # root may write anywhere
    monkeypatch.setattr(packing.os, "access", lambda *_: False)
    assert len(read(store)) == 10
    assert len(list((tmp_path / "rsft/chips").rglob("*.npy"))) == 1 and not packed(
        store
    )


def test_full_disk(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packing, "_pack_chunk", full)
    with pytest.raises(RsftError, match=r"the disk is full.*free some space"):
        read(store)
    assert not packed(store)


def test_chip_that_differs_from_the_manifest_is_an_error(store):
    path = store.root / store.table["path"][3]
    cv2.imwrite(str(path), np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(
        DataError, match=mentions("differs from the manifest")
    ) as caught:
        read(store)
    assert caught.value.location == str(path) and not packed(store)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read(store)


def test_unit_that_cannot_be_converted_is_an_error(store):
    with pytest.raises(DataError, match=mentions("takes sigma0")):
        read(
            store,
            CONTRACT.model_copy(update={"units": {"sigma0": (Stretch(high=1),) * 3}}),
        )


def test_chips_without_a_manifest_share_a_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "user_cache_path", lambda name: tmp_path / name)
    expected = tmp_path / "rsft/unlabeled"
    assert packing.cache_folder(tmp_path / "chips") == expected and expected.is_dir()
