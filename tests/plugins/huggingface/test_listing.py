"""Every method is tried with its default settings."""

import pytest

from rsft.peft import BitFit, LoRA, VPTDeep
from rsft.plugins.huggingface.listing import MethodTrial, try_method
from tests.helpers.plugins import needs_plugin

pytestmark = needs_plugin("huggingface")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (LoRA(rank=1), (3 * 512 + 512 + 1280 + 1280, True, True)),
        (VPTDeep(prompts=2), (2 * 256, False, False)),
        (BitFit(), (3328, True, False)),
    ],
)
def test_a_trial_counts_and_merges(method, expected):
    assert try_method("x", method) == MethodTrial("x", *expected)


def test_a_method_that_cannot_be_used_has_the_reason():
    trial = try_method("x", LoRA(positions=["conv1"]))
    assert not trial.trained_parameters and "conv1" in trial.reason
