from types import SimpleNamespace

import pandas as pd
import pytest

from rsft.evaluation.leaks import count_leaks
from rsft.evaluation.schema import Leaks


@pytest.mark.parametrize("kind", ["object", "category"])
def test_test_chips_leak_from_validation_chips_too(kind):
    rows = [
        ("train", "a", None),
        ("val", "b", "1"),
        ("test", "b", None),
        ("test", "c", "1"),
        ("test", "d", ""),
    ]
    table = (
        pd.DataFrame(rows, columns=["split", "sha256", "mmsi"])
        .assign(group_key="")
        .astype(kind)
    )
    store = SimpleNamespace(
        read_parts=lambda columns: [table[columns][:2], table[columns][2:]]
    )
    assert count_leaks(store, store, "test") == Leaks(
        chips=2, identical=1, group=0, vessel=1
    )
    assert count_leaks(store, store, "val").chips == 0
