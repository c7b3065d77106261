"""Chips are classified as in a prediction."""

import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.models.bundle.bundle import Bundle
from rsft.training.classify import classify_chips

pytestmark = pytest.mark.slow


def test_outputs_of_all_chips_and_of_some(run, root):
    bundle = Bundle.load(run)
    store = ChipStore.open(root)
    table = store.split("val")
    outputs = classify_chips(bundle, store.root, table)
    assert outputs.logits.shape == (len(table), len(bundle.classes))
    some = np.array([1, 4])
    calls = []
    part = classify_chips(
        bundle,
        store.root,
        table,
        progress=lambda *call: calls.append(call),
        task="work",
        indices=some,
    )
    np.testing.assert_allclose(part.logits, outputs.logits[some], atol=1e-5)
    assert calls[-1] == (2, 2, "work")
