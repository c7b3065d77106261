"""Digital numbers become backscatter; 0 is no data."""

import numpy as np
import pytest

from rsft.data.imagery.products.calibration import (
    CosineCalibration,
    FactorCalibration,
    ScaledCalibration,
)
from rsft.data.imagery.products.line_table import LineTable

DN = np.float32([[0, 2, 4]])
ANGLES = LineTable.constant(60.0)


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        (FactorCalibration(0.5), [2, 8]),
        (ScaledCalibration(lambda *window: np.full((1, 3), 2.0), 1.0), [10, 34]),
        (CosineCalibration(ANGLES, FactorCalibration(0.5), False), [1, 4]),
        (CosineCalibration(ANGLES, None, True), [10**0.2 / 2, 10**0.4 / 2]),
    ],
)
def test_backscatter(calibration, expected):
    values, clipped = calibration(DN, 0, 0)
    assert np.isnan(values[0, 0]) and values.dtype == np.float32 and clipped == 0
    np.testing.assert_allclose(values[0, 1:], expected, rtol=1e-6)


def test_a_factor_is_positive():
    with pytest.raises(ValueError, match="not a positive number"):
        FactorCalibration(0)
