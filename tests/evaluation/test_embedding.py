import numpy as np
import pytest

from rsft.evaluation import embedding
from rsft.evaluation.embedding import tsne


def test_clusters_stay_together_and_a_map_is_reproducible():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    features = (5 * np.eye(3, 16)[labels] + rng.normal(0, 0.3, (60, 16))).astype(
        np.float32
    )
    first = tsne(features)
    second = tsne(features)
    np.testing.assert_array_equal(first, second)
    nearest = np.linalg.norm(first[:, None] - first[None], axis=2) + 1e9 * np.eye(60)
    assert (labels[nearest.argmin(1)] == labels).all()


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_a_few_chips(count):
    points = tsne(np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32))
    assert points.shape == (count, 2) and np.isfinite(points).all()


@pytest.mark.parametrize(("count", "neighbors"), [(4, 1), (31, 10), (200, 30)])
def test_a_few_chips_have_fewer_neighbors(count, neighbors, monkeypatch):
    class Map:
        def __init__(self, perplexity, **_):
            self.perplexity = perplexity

        def fit_transform(self, features):
            return np.full((len(features), 2), self.perplexity)

    monkeypatch.setattr(embedding, "TSNE", Map)
    assert tsne(np.ones((count, 8), np.float32))[0, 0] == neighbors
