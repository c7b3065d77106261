import numpy as np
import pytest

from rsft.evaluation.baselines import knn_predict, pixels_16


def test_separable_classes_are_found_and_rows_sum_to_one():
    rng = np.random.default_rng(0)
    centres = 5 * np.eye(3, 8)
    train_y, test_y = rng.integers(0, 3, 60), rng.integers(0, 3, 30)
    train_x, test_x = (centres[y] + rng.normal(0, 0.3, (len(y), 8)) for y in (train_y, test_y))
    found = knn_predict(train_x, train_y, test_x, 3)
    assert (found.argmax(axis=1) == test_y).all()
    assert found.sum(axis=1) == pytest.approx(1)


def test_cosine_sees_direction_and_euclidean_distance():
    train_x, train_y = np.array([[1.0, 0.0], [10.0, 10.0]]), np.array([0, 1])
    query = np.array([[1.0, 1.0]])
    assert knn_predict(train_x, train_y, query, 2, k=1).argmax() == 1
    assert knn_predict(train_x, train_y, query, 2, k=1, metric="euclidean").argmax() == 0


def test_a_tie_goes_to_the_nearer_class_not_to_the_lower_index():
    train_x, train_y = np.array([[0.0], [3.0]]), np.array([0, 1])
    assert knn_predict(train_x, train_y, np.array([[2.0]]), 2, k=2, metric="euclidean").argmax() == 1


def test_fewer_chips_than_neighbours_and_a_class_without_any():
    found = knn_predict(np.array([[0.0, 1.0]]), np.array([2]), np.array([[1.0, 0.0], [0.0, 0.0]]), 4)
    assert found.tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]


def test_pixels_are_area_averages():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 32, 1), np.uint8)
    found = pixels_16(image.repeat(3, axis=3))
    assert found.shape == (1, 256)
    assert found[0] == pytest.approx(image.reshape(16, 4, 16, 2).mean(axis=(1, 3)).ravel(), abs=1e-3)


@pytest.mark.parametrize("side", [16, 9, 50])
def test_a_flat_image_stays_flat(side):
    assert pixels_16(np.full((2, side, side, 3), 77, np.uint8)) == pytest.approx(77, abs=1e-3)
