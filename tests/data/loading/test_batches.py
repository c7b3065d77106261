"""Packed cache of a chip store, and batches from it."""

import errno
import os

import cv2
import numpy as np
import pytest
import torch

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import IDENTITY_STRETCH, Contract, Stretch
from rsft.data.imagery.reader import read_chip
from rsft.data.loading import batches
from rsft.data.loading.batches import ChipImages, EpochBatches
from rsft.errors import DataError, RsftError
from tests.helpers.killing import kill_this_process, run_until_killed
from tests.helpers.messages import mentions

UNITS = {"uint8": (IDENTITY_STRETCH,) * 3, "uint16": (IDENTITY_STRETCH,) * 3}
HALF = (0.5,) * 3
CONTRACT = Contract(units=UNITS, bands=("gray",), planes=("gray",) * 3, crop=12, size=8, mean=HALF, std=HALF)


def make(root, count=10):
    def cut(seed):
        dtype = "uint16" if seed % 2 else "uint8"
        return np.random.default_rng(seed).integers(0, 256, (16, 16, 1)).astype(dtype)

    records = [
        ChipRecord(str(index), "train", "ab"[index % 2], root.parent / "1.txt", lambda seed=index: cut(seed))
        for index in range(count)
    ]
    return build_store(root, records, StoreDescription("tiny", ("a", "b"), "tiny"), overwrite=root.exists())


@pytest.fixture
def store(tmp_path):
    return make(tmp_path / "数据 1")


def read(store, contract=CONTRACT):
    return ChipImages(store.root, store.table, store.classes, contract)


def packed(store):
    return sorted((store.root / ".cache").glob("*.npy"))


def test_images_match_the_contract(store):
    chips = read(store)
    assert chips.images.shape == (10, 8, 8, 3) and chips.labels.tolist() == [0] * 5 + [1] * 5
    for image, path in zip(chips.images, store.table["path"], strict=True):
        np.testing.assert_array_equal(image, CONTRACT.to_image(read_chip(store.root / path)))


def test_cached_images_are_not_read_again(store, monkeypatch):
    first = read(store).images
    monkeypatch.setattr(batches, "read_chip", None)
    again = read(store)
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    np.testing.assert_array_equal(first, again.images)
    assert len(packed(store)) == 1


@pytest.mark.parametrize(
    "change", [{"size": 4}, {"crop": None}, {"units": UNITS | {"uint16": (Stretch(high=100),) * 3}}]
)
def test_another_contract_has_another_cache(store, change):
    first, second = read(store), read(store, CONTRACT.model_copy(update=change))
    assert len(packed(store)) == 2 and not np.array_equal(first.images, second.images)


def test_chip_standard_shares_the_cache_of_bytes(store):
    first, second = read(store), read(store, CONTRACT.model_copy(update={"chip_standard": True}))
    assert len(packed(store)) == 1 and np.array_equal(first.images, second.images)
    inputs, _ = second.batch(np.arange(10))
    assert not torch.equal(inputs, first.batch(np.arange(10))[0])
    torch.testing.assert_close(inputs.mean((1, 2, 3)), torch.zeros(10), atol=1e-5, rtol=0)


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
        batches._pack_chunk = kill_this_process  # in its own process
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
    monkeypatch.setattr(batches, "_MIN_CHIPS_FOR_TWO_JOBS", 1)
    monkeypatch.setattr(batches, "_CHUNK", 3)
    read(store)
    assert path.read_bytes() == first


def test_read_only_root_is_cached_in_the_user_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(batches.os, "access", lambda *_: False)  # root may write anywhere
    assert len(read(store)) == 10
    assert len(list((tmp_path / "rsft/chips").rglob("*.npy"))) == 1 and not packed(store)


def test_full_disk(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(batches, "_pack_chunk", full)
    with pytest.raises(RsftError, match=r"the disk is full.*free some space"):
        read(store)
    assert not packed(store)


def test_chip_that_differs_from_the_manifest_is_an_error(store):
    path = store.root / store.table["path"][3]
    cv2.imwrite(str(path), np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(DataError, match=mentions("differs from the manifest")) as caught:
        read(store)
    assert caught.value.location == str(path) and not packed(store)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read(store)


def test_unit_that_cannot_be_converted_is_an_error(store):
    with pytest.raises(DataError, match=mentions("takes sigma0")):
        read(store, CONTRACT.model_copy(update={"units": {"sigma0": (Stretch(high=1),) * 3}}))


def natural_batches(chips, workers=0, name="natural"):
    settings = {"batch_size": 5, "eval_batch_size": 5, "augmentation": Augmentation(name, size=8)}
    return EpochBatches(chips, chips, **settings, seed=3, workers=workers)


@pytest.mark.parametrize("name", ["natural", "sar", "optical"])
def test_batches_do_not_depend_on_the_number_of_workers(store, name):
    chips = read(store)
    one, two = (
        [tensor for batch in natural_batches(chips, workers, name).training_loader(0) for tensor in batch]
        for workers in (0, 2)
    )
    assert len(one) == len(two) == 4
    assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))


def test_natural_crops_the_chip_before_it_is_resized(store):
    chips = read(store)
    whole = chips.full_size_image(3)
    assert whole.shape == (12, 12, 3)  # the contract's center crop of 16 x 16 pixels, not resized to 8 x 8
    np.testing.assert_array_equal(whole[:, :, :1], read_chip(store.root / store.table["path"][3])[2:14, 2:14])
    data = natural_batches(chips)
    images, labels = next(iter(data.training_loader(1)))
    order = data.chip_order(1)[:5]
    for image, index in zip(images, order, strict=True):
        seed = np.random.SeedSequence((3, 1, index)).generate_state(1)[0]
        expected = Augmentation("natural", size=8)(chips.full_size_image(index), int(seed))
        assert torch.equal(image, torch.from_numpy(CONTRACT.normalize([expected])[0]))
    assert labels.tolist() == chips.labels[order].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_outer_batches_are_augmented_like_those_of_an_epoch(store, workers):
    data = natural_batches(read(store), workers)
    inputs, labels = data.load(data.chip_order(1)[:5], 1)
    expected_inputs, expected_labels = next(iter(data.training_loader(1)))
    assert torch.equal(inputs, expected_inputs) and torch.equal(labels, expected_labels)


def test_validation_chips_are_not_augmented(store):
    chips = read(store)
    inputs = torch.cat([inputs for inputs, _ in natural_batches(chips).validation_loader()])
    assert torch.equal(inputs, torch.from_numpy(CONTRACT.normalize(list(chips.images))))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_chip_that_changes_during_training_is_named(store, workers):
    data = natural_batches(read(store), workers)
    path = store.root / store.table["path"][3]
    cv2.imwrite(str(path), np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(DataError, match=mentions("differs from the manifest")) as caught:
        list(data.training_loader(0))
    assert caught.value.location == str(path) and "prepare the data again" in caught.value.hint
