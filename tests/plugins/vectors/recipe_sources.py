"""Write the vectors that the header of the recipe names."""

import numpy as np
import pandas as pd


def write_all(folder):
    """Write a table of vectors that fit a chip of 8 x 8 pixels."""
    vectors = np.random.default_rng(0).normal(size=(36, 15)).astype(np.float32)
    columns = {
        "chip": [f"chip{number}" for number in range(36)],
        "class": list("abc") * 12,
        "vector": list(vectors),
    }
    pd.DataFrame(columns).to_parquet(folder / "VECTORS.parquet")


def make_small(monkeypatch):
    """Change nothing: the vectors are few."""
