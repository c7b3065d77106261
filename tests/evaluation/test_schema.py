import pytest

from rsft.evaluation.schema import SmallNetwork
from rsft.metrics.intervals import Interval


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            (0.031, 0.012, 0.05),
            [
                "is above a small network without",
                "(+3.1 points",
                "+1.2 to +5.0; 40 epochs",
            ],
        ),
        (
            (-0.02, -0.03, -0.01),
            [
                "is below",
                "(-2.0 points",
                "-3.0 to -1.0",
                "rsft recipes show mstar_lt_small",
            ],
        ),
        (
            (0.004, -0.008, 0.017),
            ["is not distinguishable from", "+0.4 points", "-0.8 to +1.7"],
        ),
        ((0.0, 0.0, 0.0), ["is not distinguishable from"]),
        ((0.01, 0.0, 0.02), ["is not distinguishable from"]),
        ((0.01, 0.0004, 0.02), ["is not distinguishable from", "+0.0 to +2.0"]),
        ((-0.08, -0.165, -0.0004), ["is not distinguishable from", "-16.5 to +0.0"]),
    ],
)
def test_the_sentence_compares_the_run_with_the_small_network(difference, words):
    small = SmallNetwork(epochs=40, macro_difference=Interval(*difference))
    sentence = small.sentence("LoRA")
    assert sentence.startswith("LoRA is ") and all(
        word in sentence for word in words
    ), sentence
