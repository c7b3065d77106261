"""Batches from the packed cache of a chip store."""

import cv2
import numpy as np
import pytest
import torch

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.reader import read_chip
from rsft.data.loading import batches
from rsft.data.loading.batches import EpochBatches
from rsft.errors import DataError
from rsft.models.devices import copy_batch, copy_to_device
from tests.helpers.bus import copied_bytes
from tests.helpers.messages import mentions
from tests.helpers.tiny_store import CONTRACT, read


def test_chip_standard_shares_the_cache_of_bytes(store):
    first = read(store)
    second = read(store, CONTRACT.model_copy(update={"chip_standard": True}))
    assert first.cache_file == second.cache_file
    inputs, other = [
        copy_to_device(chips.batch(np.arange(10))[0], "cpu")
        for chips in (second, first)
    ]
    assert not torch.equal(inputs, other)
    torch.testing.assert_close(
        inputs.mean((1, 2, 3)), torch.zeros(10), atol=1e-5, rtol=0
    )


def test_pages_of_images_are_given_back(store, monkeypatch):
    # a limit of memory, small enough for a test
    monkeypatch.setattr(batches, "_READS", 4)
    chips = read(store)
    first = chips.image(0)
    np.testing.assert_array_equal(
        [chips.image(index) for index in range(10)], chips.images
    )
    np.testing.assert_array_equal(first, chips.images[0])  # a view stays valid
    assert chips.reads == 11


def natural_batches(chips, workers=0, name="natural"):
    settings = {
        "batch_size": 5,
        "eval_batch_size": 5,
        "augmentation": Augmentation(name, size=8),
    }
    return EpochBatches(chips, chips, **settings, seed=3, workers=workers)


@pytest.mark.parametrize("name", ["natural", "sar", "optical"])
def test_batches_do_not_depend_on_the_number_of_workers(store, name):
    chips = read(store)
    one = [
        tensor
        for batch in natural_batches(chips, 0, name).training_loader(0)
        for tensor in copy_batch(batch, "cpu")
    ]
    two = [
        tensor
        for batch in natural_batches(chips, 2, name).training_loader(0)
        for tensor in copy_batch(batch, "cpu")
    ]
    assert len(one) == len(two) == 4
    assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))


def test_natural_crops_the_chip_before_it_is_resized(store):
    chips = read(store)
    whole = chips.full_size_image(3)
    # the contract's center crop of 16 x 16 pixels, not resized to 8 x 8
    assert whole.shape == (
        12,
        12,
        3,
    )
    np.testing.assert_array_equal(
        whole[:, :, :1], read_chip(store.root / store.table["path"][3])[2:14, 2:14]
    )
    data = natural_batches(chips)
    images, labels = copy_batch(next(iter(data.training_loader(1))), "cpu")
    order = data.chip_order(1)[:5]
    for image, index in zip(images, order, strict=True):
        seed = np.random.SeedSequence((3, 1, index)).generate_state(1)[0]
        expected = Augmentation("natural", size=8)(
            chips.full_size_image(index), int(seed)
        )
        assert torch.equal(image, torch.from_numpy(CONTRACT.normalize([expected])[0]))
    assert labels.tolist() == chips.labels[order].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_outer_batches_are_augmented_like_those_of_an_epoch(store, workers):
    data = natural_batches(read(store), workers)
    batch = data.load(data.chip_order(1)[:5], 1)
    expected = next(iter(data.training_loader(1)))
    pairs = zip(copy_batch(batch, "cpu"), copy_batch(expected, "cpu"), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_validation_chips_are_not_augmented(store):
    chips = read(store)
    inputs = torch.cat(
        [
            copy_to_device(inputs, "cpu")
            for inputs, _ in natural_batches(chips).validation_loader()
        ]
    )
    assert torch.equal(inputs, torch.from_numpy(CONTRACT.normalize(list(chips.images))))


def test_every_gray_chip_crosses_the_bus_as_one_plane_of_bytes(store):
    data = natural_batches(read(store))
    loaders = {
        "augmented": data.training_loader(0),
        "plain": data.validation_loader(),
        "outer": [data.load(np.arange(5), 0), data.load(np.arange(5, 10), 0)],
    }
    for loader in loaders.values():
        with copied_bytes() as sizes:
            shapes = [copy_batch(batch, "meta")[0].shape for batch in loader]
        chips = 8 * 8
        table = 4 * 256 * 3
        labels = 8
        expected = 10 * (chips + labels) + 2 * table
        assert sum(sizes) == expected and shapes == [(5, 3, 8, 8)] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_chip_that_changes_during_training_is_named(store, workers):
    data = natural_batches(read(store), workers)
    path = store.root / store.table["path"][3]
    cv2.imwrite(str(path), np.arange(256, dtype=np.uint8).reshape(16, 16))
    with pytest.raises(
        DataError, match=mentions("differs from the manifest")
    ) as caught:
        list(data.training_loader(0))
    assert (
        caught.value.location == str(path)
        and "prepare the data again" in caught.value.hint
    )
