"""A chip store of ten chips with 16 x 16 pixels, and a contract that makes 8 x 8 pixels
of them."""

import numpy as np

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.data.loading.batches import ChipImages

UNITS = {"uint8": (IDENTITY_STRETCH,) * 3, "uint16": (IDENTITY_STRETCH,) * 3}
HALF = (0.5,) * 3
CONTRACT = Contract(
    units=UNITS,
    bands=("gray",),
    planes=("gray",) * 3,
    crop=12,
    size=8,
    mean=HALF,
    std=HALF,
)


def make(root, count=10):
    def cut(seed):
        dtype = "uint16" if seed % 2 else "uint8"
        return np.random.default_rng(seed).integers(0, 256, (16, 16, 1)).astype(dtype)

    records = [
        ChipRecord(
            str(index),
            "train",
            "ab"[index % 2],
            root.parent / "1.txt",
            lambda seed=index: cut(seed),
        )
        for index in range(count)
    ]
    return build_store(
        root,
        records,
        StoreDescription("tiny", ("a", "b"), "tiny"),
        overwrite=root.exists(),
    )


def read(store, contract=CONTRACT):
    return ChipImages(store.root, store.table, store.classes, contract)
