import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from rsft.metrics.accuracy import expected_calibration_error


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(5, 0.3), 300)
    labels = rng.integers(0, 5, 300)
    expected = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), 5, n_bins=15)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(float(expected), abs=1e-6)


def test_error_is_0_if_certain_and_correct_and_1_if_certain_and_wrong():
    sure = np.eye(3)
    assert expected_calibration_error(sure, np.arange(3)) == 0.0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1.0
