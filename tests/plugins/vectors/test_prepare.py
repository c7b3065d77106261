"""A chip store of vectors: labels of another table, splits and groups."""

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.plugins.vectors.prepare import prepare_vectors

VECTORS = np.random.default_rng(0).normal(size=(40, 16)).astype("float32")


@pytest.fixture
def table(tmp_path):
    names = [f"folder/{number}.tif" for number in range(40)]
    frame = pd.DataFrame({"path": names, "vector": list(VECTORS)})
    frame.to_parquet(tmp_path / "v.parquet")
    return frame


def test_vectors_without_a_class_are_skipped(table, tmp_path):
    source = tmp_path / "v.parquet"
    with pytest.raises(RequestError, match="no vector has a class"):
        prepare_vectors(source, tmp_path / "s")
    labels = [*["a", "b"] * 15, *[None] * 10]
    table.assign(**{"class": labels}).to_parquet(source)
    store = prepare_vectors(source, tmp_path / "s")
    assert store.bands == ("vector_16",) and store.size == 30
    assert store.counts["val"] == {"a": 3, "b": 3}
    assert store.skipped == {"vector without a class": 10}


def test_a_group_stays_in_one_split(table, tmp_path):
    groups = np.repeat([f"scene{number}" for number in range(10)], 4)
    table = table.assign(**{"class": ["a", "b"] * 20, "group_key": groups})
    table.to_parquet(tmp_path / "v.parquet")
    store = prepare_vectors(tmp_path / "v.parquet", tmp_path / "s", val=0.3)
    splits = store.table.groupby("group_key")["split"].nunique()
    assert len(splits) == 10 and (splits == 1).all()
