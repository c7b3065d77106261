"""The study of pools: shares of classes, and the table."""

import numpy as np
import pytest

from tools.reproduction.pools import estimate_shares, format_table


def test_shares_are_estimated_from_ambiguous_chips():
    rng = np.random.default_rng(0)
    true = rng.choice(3, 6000, p=(0.7, 0.25, 0.05))
    # one measurement per chip, with an error: equal priors give too many of the last
    # class
    values = true + rng.normal(0, 0.6, len(true))
    likely = np.exp(-((values[:, None] - np.arange(3)) ** 2) / (2 * 0.6**2))
    even = likely / likely.sum(1, keepdims=True)
    assert even.mean(0)[2] > 0.1
    assert estimate_shares(even) == pytest.approx([0.7, 0.25, 0.05], abs=0.02)


def test_the_table_has_paired_differences():
    pairs = [
        ({"macro": 70.0, "tail": 50.0}, {"macro": 71.0, "tail": 60.0}),
        ({"macro": 72.0, "tail": 52.0}, {"macro": 71.0, "tail": 56.0}),
    ]
    lines = [line.split() for line in format_table(pairs).splitlines()]
    assert lines[0] == ["measure", "without", "with", "difference", "±", "worst"]
    # the half width of two differences is 12.7 standard errors
    assert lines[1] == ["macro", "71.0", "71.0", "0.0", "12.7", "-1.0"]
    assert lines[4] == ["tail", "51.0", "58.0", "7.0", "38.1", "4.0"]
