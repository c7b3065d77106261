import numpy as np
import pytest

from rsft.metrics.sets import class_mean_distances, distance_by_group


def test_cosine_distance_of_right_angles_opposites_and_lengths():
    features = np.array([[5.0, 0.0], [0.1, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    distances = class_mean_distances(features, np.array([0, 0, 1, 2]), 4)
    assert distances[:3] == pytest.approx([1.5, 1.0, 1.5])
    assert np.isnan(distances[3])


def test_groups_by_index():
    means = distance_by_group(np.array([0.5, np.nan, 0.7, np.nan]), {"head": [0], "medium": [1], "tail": [2, 3]})
    assert means == {"all": pytest.approx(0.6), "head": 0.5, "medium": None, "tail": 0.7}


def test_single_class_has_no_distance():
    distances = class_mean_distances(np.ones((3, 2)), np.zeros(3, int), 2)
    assert np.isnan(distances).all() and distance_by_group(distances, {})["all"] is None
