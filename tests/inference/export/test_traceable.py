"""A bundle as plain modules: the same answers, and a graph for any number of images."""

from __future__ import annotations

import pytest
import torch

from rsft.inference.export.traceable import BFloat16Network, TraceableNetwork, trace_network
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, METHODS, tiny_classifier


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_the_graph_says_what_the_classifier_says(method):
    model = tiny_classifier(1, method)
    wanted = model.predict(IMAGES)
    graph = trace_network(TraceableNetwork([model]), CONTRACT).module()
    for count in (1, 5):
        logits, features = graph(IMAGES[:count])
        torch.testing.assert_close(logits, wanted.logits[:count], atol=1e-5, rtol=0)
        torch.testing.assert_close(features, wanted.features[:count], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_last_block_computes_the_class_token_alone():
    model, seen = tiny_classifier(1), []
    for block in model.adapted.vit.blocks:
        block.mlp.fc2.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    TraceableNetwork([model])(IMAGES)
    assert seen == [(5, 5), (5, 5)]  # hooked, so run as it is
    for block in model.adapted.vit.blocks:
        block.mlp.fc2._forward_pre_hooks.clear()
    model.adapted.vit.blocks[-1].mlp.fc2.forward = lambda x: seen.append(tuple(x.shape[:2])) or torch.zeros(5, 1, 24)
    TraceableNetwork([model])(IMAGES)
    assert seen[2:] == [(5, 1)]


@torch.no_grad()
def test_several_runs_are_the_mean_of_probabilities():
    runs = [tiny_classifier(seed, head="cosine") for seed in (1, 2, 3)]
    wanted = torch.stack([run(IMAGES).softmax(1) for run in runs]).mean(0)
    logits, features = TraceableNetwork(runs)(IMAGES)
    torch.testing.assert_close(logits.softmax(1), wanted, atol=1e-6, rtol=0)
    assert features.shape == (5, 24)


@torch.no_grad()
@pytest.mark.parametrize("products", [False, True])
def test_half_is_near_and_gives_float32(products):
    wanted, half = (
        tiny_classifier(1).predict(IMAGES),
        BFloat16Network(TraceableNetwork([tiny_classifier(1)]), products=products),
    )
    logits, features = half(IMAGES)
    torch.testing.assert_close(trace_network(half, CONTRACT).module()(IMAGES)[0], logits, atol=1e-3, rtol=0)
    assert logits.dtype == features.dtype == torch.float32
    assert 0 < (logits - wanted.logits).abs().max() < 5e-2
