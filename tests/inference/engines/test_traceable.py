"""A bundle as plain modules gives the classifier's outputs, and a graph for any number
of images."""

from itertools import product

import numpy as np
import pytest
import torch

from rsft.inference.engines.base import Tolerance
from rsft.inference.engines.traceable import (
    BFloat16Network,
    TraceableNetwork,
    compare_outputs,
    trace_network,
)
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, METHODS, tiny_classifier


def further(cases):
    """Return cases of which each value has a case in the normal run."""
    return [pytest.param(*case, marks=pytest.mark.exhaustive) for case in cases]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("method", "head"),
    [
        *product(METHODS, ["linear"]),
        ("lora", "two depths"),
        *further(product(["adapter", "prompts"], ["two depths"])),
    ],
)
def test_the_graph_gives_the_outputs_of_the_classifier(method, head):
    classifier = tiny_classifier(1, method, head)
    expected = classifier.predict(IMAGES)
    graph = trace_network(TraceableNetwork([classifier]), CONTRACT).module()
    for count in (1, 5):
        logits, features = graph(IMAGES[:count])
        torch.testing.assert_close(logits, expected.logits[:count], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            features, expected.features[:count], atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_the_last_block_computes_only_the_class_token():
    classifier = tiny_classifier(1)
    shapes = []
    for block in classifier.adapted.vit.blocks:
        block.mlp.fc2.register_forward_pre_hook(
            lambda _, args: shapes.append(tuple(args[0].shape[:2]))
        )
    TraceableNetwork([classifier])(IMAGES)
    assert shapes == [(5, 5), (5, 5)]  # a block with hooks is run as it is
    for block in classifier.adapted.vit.blocks:
        block.mlp.fc2._forward_pre_hooks.clear()
    last = classifier.adapted.vit.blocks[-1]
    last.mlp.fc2.forward = lambda x: (
        shapes.append(tuple(x.shape[:2])) or torch.zeros(5, 1, 24)
    )
    TraceableNetwork([classifier])(IMAGES)
    assert shapes[2:] == [(5, 1)]


@torch.no_grad()
@pytest.mark.parametrize("head", ["cosine", "two depths"])
def test_several_runs_give_the_mean_of_their_probabilities(head):
    runs = [tiny_classifier(seed, head=head) for seed in (1, 2, 3)]
    expected = torch.stack([run(IMAGES).softmax(1) for run in runs]).mean(0)
    logits, features = TraceableNetwork(runs)(IMAGES)
    torch.testing.assert_close(logits.softmax(1), expected, atol=1e-6, rtol=0)
    assert features.shape == (5, 24)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("head", "limit"), [("linear", 5e-2), ("two depths", 1e-1)])
def test_bfloat16_is_near_and_gives_float32(head, limit):
    expected = tiny_classifier(1, head=head).predict(IMAGES).logits
    network = BFloat16Network(TraceableNetwork([tiny_classifier(1, head=head)]))
    logits, features = network(IMAGES)
    torch.testing.assert_close(
        trace_network(network, CONTRACT).module()(IMAGES)[0], logits, atol=1e-3, rtol=0
    )
    assert logits.dtype == features.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < limit


@pytest.mark.parametrize(
    ("factor", "relative", "difference"),
    [
        (1, False, (0.5, 0.01, 0.25, 0.01)),
        (1, True, (0.5, 0.02, 0.25, 0.01)),
        (0.1, False, (0.05, 0.01, 0.1, 0.01)),
        (0.1, True, (0.05, 0.01, 0.1, 0.01)),  # divisors below 1 count as 1
    ],
)
def test_outputs_are_compared(factor, relative, difference):
    reference = ClassifierOutputs(np.array([[-2.0, 1.0]]), np.array([[4.0, 0.0]]))
    outputs = ClassifierOutputs(np.array([[-2.0, 1.5]]), np.array([[3.0, 0.0]]))
    outputs = ClassifierOutputs(*(factor * values for values in outputs))
    reference = ClassifierOutputs(*(factor * values for values in reference))
    tolerance = Tolerance(0.01, relative=relative)
    assert compare_outputs(outputs, reference, tolerance) == pytest.approx(difference)
    with pytest.raises(ValueError, match="not compared"):
        compare_outputs(outputs, reference, Tolerance(None))
