from functools import partial

import numpy as np
import pytest

from rsft.evaluation import baselines
from rsft.evaluation.baselines import (
    balance_votes,
    choose_probe_chips,
    discriminant_predict,
    flatten_small_image,
    knn_predict,
    linear_probe_predict,
)
from rsft.utils.stored_rows import StoredRows, blocks


def test_separable_classes_are_classified_correctly_and_rows_sum_to_one():
    rng = np.random.default_rng(0)
    centers = 5 * np.eye(3, 8)
    train_y = rng.integers(0, 3, 60)
    test_y = rng.integers(0, 3, 30)
    train_x = centers[train_y] + rng.normal(0, 0.3, (len(train_y), 8))
    test_x = centers[test_y] + rng.normal(0, 0.3, (len(test_y), 8))
    probabilities = knn_predict(train_x, train_y, test_x, 3)
    assert (probabilities.argmax(axis=1) == test_y).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)


def test_cosine_compares_direction_and_euclidean_compares_distance():
    train_x = np.array([[1.0, 0.0], [10.0, 10.0]])
    train_y = np.array([0, 1])
    query = np.array([[1.0, 1.0]])
    assert knn_predict(train_x, train_y, query, 2, k=1).argmax() == 1
    assert (
        knn_predict(train_x, train_y, query, 2, k=1, metric="euclidean").argmax() == 0
    )


def test_votes_are_inverse_cosine_distances():
    rng = np.random.default_rng(1)
    train_x = rng.normal(size=(40, 6))
    test_x = rng.normal(size=(9, 6))
    train_y = np.arange(40) % 3
    cosines = (
        test_x
        @ train_x.T
        / np.linalg.norm(test_x, axis=1)[:, None]
        / np.linalg.norm(train_x, axis=1)
    )
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    votes = np.zeros((9, 3))
    for row, columns in enumerate(nearest):
        np.add.at(votes[row], train_y[columns], 1 / (1 - cosines[row, columns]))
    votes /= votes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        knn_predict(train_x, train_y, test_x, 3), votes, rtol=1e-9
    )


def test_a_tie_goes_to_the_nearer_class_and_not_to_the_lower_index():
    train_x = np.array([[0.0], [3.0]])
    train_y = np.array([0, 1])
    assert (
        knn_predict(
            train_x, train_y, np.array([[2.0]]), 2, k=2, metric="euclidean"
        ).argmax()
        == 1
    )


def test_fewer_chips_than_neighbors_and_a_class_without_chips():
    probabilities = knn_predict(
        np.array([[0.0, 1.0]]), np.array([2]), np.array([[1.0, 0.0], [0.0, 0.0]]), 4
    )
    assert probabilities.tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]


def test_balanced_votes_are_divided_by_the_number_of_training_chips():
    train_x = np.array([[0.0], [0.1], [0.2], [1.0]])
    train_y = np.array([0, 0, 0, 1])
    query = np.array([[0.55]])
    plain = knn_predict(train_x, train_y, query, 3, k=4, metric="euclidean")
    balanced = balance_votes(plain, train_y)
    votes = [sum(1 / abs(0.55 - x) for x in (0, 0.1, 0.2)), 1 / 0.45]
    assert plain[0] == pytest.approx([votes[0] / sum(votes), votes[1] / sum(votes), 0])
    assert balanced[0] == pytest.approx(
        np.array([votes[0] / 3, votes[1], 0]) / (votes[0] / 3 + votes[1])
    )


@pytest.fixture
def features(tmp_path):
    """Return features of 200 training chips, labels, and features of 60 chips."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 200)
    train_x = rng.normal(labels[:, None], 1, (200, 6)).astype(np.float32)
    return train_x, labels, rng.normal(1, 2, (60, 6)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbors_are_the_same_in_blocks_of_a_file(
    metric, features, tmp_path, monkeypatch
):
    train_x, labels, test_x = features
    test_x[7] = train_x[60]  # its only neighbor
    expected = knn_predict(train_x, labels, test_x, 5, 3, metric)
    assert expected[7].tolist() == np.eye(5)[labels[60]].tolist()
    monkeypatch.setattr(baselines, "blocks", partial(blocks, size=19))
    stored = [StoredRows(tmp_path, [rows]) for rows in (train_x, test_x)]
    found = knn_predict(stored[0], labels, stored[1], 5, 3, metric)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("predict", [discriminant_predict, linear_probe_predict])
def test_classifiers_are_the_same_in_blocks_of_a_file(
    predict, features, tmp_path, monkeypatch
):
    train_x, labels, test_x = features
    expected = predict(train_x, labels, test_x, 5)
    monkeypatch.setattr(baselines, "blocks", partial(blocks, size=20))
    if predict is discriminant_predict:
        train_x = StoredRows(tmp_path, [train_x])
    found = predict(train_x, labels, StoredRows(tmp_path, [test_x]), 5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_many_chips_leave_the_small_classes_whole(monkeypatch):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], [50, 3, 20]))
    assert choose_probe_chips(labels).tolist() == list(range(73))
    monkeypatch.setattr(baselines, "MAX_PROBE_CHIPS", 21)
    chosen = choose_probe_chips(labels)
    assert np.bincount(labels[chosen]).tolist() == [9, 3, 0, 9]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == choose_probe_chips(labels).tolist()


def test_the_probe_removes_the_class_prior():
    rng = np.random.default_rng(0)
    counts = np.array([2000, 20])
    train_y = np.repeat([0, 1], counts)
    angles = rng.normal(np.where(train_y, 1.0, 0.0), 0.6)
    train_x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    queries = np.linspace(-1, 2, 301)
    probabilities = linear_probe_predict(
        train_x, train_y, np.stack([np.cos(queries), np.sin(queries)], axis=1), 3
    )
    assert (
        probabilities.sum(axis=1) == pytest.approx(1)
        and (probabilities[:, 2] == 0).all()
    )
    # with the prior: 1.1 to 2.2
    border = queries[probabilities.argmax(axis=1) == 1].min()
    assert 0.3 < border < 0.7  # 0.5 for equally frequent classes


def test_the_probe_has_no_probability_of_zero():
    train_x = np.float32([[1, -0.2], [1, 0.2]] * 50)
    test_x = np.float32([[0, -1], [0, 1]])
    probabilities = linear_probe_predict(train_x, np.array([0, 1] * 50), test_x, 2)
    # 1 - p is 0 in float32
    assert 0 < probabilities[0, 1] < 1e-8 and 0 < probabilities[1, 0] < 1e-8


def test_the_probe_with_chips_of_one_class():
    assert linear_probe_predict(
        np.ones((2, 3)), np.array([1, 1]), np.ones((1, 3)), 2
    ).tolist() == [[0, 1]]


def test_pixels_are_area_averages():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 32, 1), np.uint8)
    pixels = flatten_small_image(image[0].repeat(3, axis=2))
    assert pixels.shape == (1, 256)
    assert pixels[0] == pytest.approx(
        image.reshape(16, 4, 16, 2).mean(axis=(1, 3)).ravel(), abs=1e-3
    )


@pytest.mark.parametrize("side", [16, 9, 50])
def test_a_flat_image_stays_flat(side):
    image = np.full((side, side, 3), 77, np.uint8)
    assert flatten_small_image(image) == pytest.approx(77, abs=1e-3)
