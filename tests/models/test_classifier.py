"""Heads on several blocks, their gradients and state, and pooling."""

import pytest
import torch
from timm.models.beit import Beit
from timm.models.cait import Cait
from torch import nn
from torch.nn import functional as F

from rsft.backbones import load_backbone
from rsft.models.classifier import Classifier, CosineHead, HeadAverage, extract_features
from rsft.peft import LoRA, VPTDeep, VPTShallow, attach
from tests.helpers.closeness import close
from tests.helpers.messages import mentions
from tests.helpers.peft_models import tiny_eva, tiny_vit, with_random_adapter

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def beit():
    """Return a network that runs only as a whole: BEiT passes relative positions from
    block to block."""
    torch.manual_seed(0)
    return Beit(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=0
    ).eval()


def cait():
    """Return a network whose blocks have no class token; two more blocks with class
    attention follow them."""
    torch.manual_seed(0)
    vit = Cait(
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=2,
        num_classes=0,
        init_values=0.5,
    )
    vit.fc_norm = nn.Identity()
    return vit.eval()


NETWORKS = {
    "class token": (tiny_vit, "token"),
    "class token, mean of patch tokens": (tiny_vit, "avg"),
    "registers": (lambda: tiny_vit(reg_tokens=2), "token"),
    "no class token": (lambda: tiny_vit(class_token=False, global_pool="avg"), "avg"),
    "rotary embeddings": (lambda: tiny_eva(num_reg_tokens=2), "token"),
    "not run by stage": (beit, "avg"),
    "class attention": (cait, "token"),
}


def make_classifier(vit, pool="token", blocks=(0, 1), method=None, **options):
    adapted = with_random_adapter(attach(vit, method or LoRA(rank=2), **options))
    torch.manual_seed(5)
    heads = [CosineHead(vit.embed_dim, 3, scale=10.0) for _ in range(1 + len(blocks))]
    return Classifier(
        adapted, HeadAverage(heads[0], dict(zip(blocks, heads[1:], strict=True))), pool
    ).eval()


def logits_of(weight, features):
    return 10 * F.normalize(features, dim=1) @ F.normalize(weight, dim=1).T


def record_blocks(vit):
    """Append the output of every block of a forward pass to a list."""
    outputs = []
    for block in vit.blocks:
        block.register_forward_hook(lambda module, args, output: outputs.append(output))
    return outputs


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_the_mean_of_all_heads(name):
    make_vit, pool = NETWORKS[name]
    classifier = make_classifier(make_vit(), pool)
    prediction = classifier.predict(IMAGES)
    head = classifier.head
    vit = classifier.adapted.vit
    outputs = record_blocks(vit)
    tokens = vit.forward_features(IMAGES)
    final = vit.fc_norm(
        tokens[:, 0] if pool == "token" else tokens[:, vit.num_prefix_tokens :].mean(1)
    )
    members = [logits_of(head.final.weight, final)]
    for block in (0, 1):
        features = outputs[block][:, -16:].mean(1)  # 4 x 4 patches
        members.append(logits_of(head.blocks[str(block)].weight, features))
    torch.testing.assert_close(prediction.logits, sum(members) / 3, atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction.features, final, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        classifier.features(IMAGES), prediction.features, atol=1e-5, rtol=0
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "method", [VPTDeep(prompts=2, blocks=[1, 2]), VPTShallow(prompts=2)]
)
def test_prompts_are_not_patch_tokens(method):
    classifier = make_classifier(tiny_vit(reg_tokens=1), method=method)
    outputs = record_blocks(classifier.adapted.vit)
    classifier.adapted.vit.forward_features(IMAGES)
    expected = torch.cat([output[:, -16:].mean(1) for output in outputs[:2]], dim=1)
    torch.testing.assert_close(
        classifier.head_inputs(IMAGES)[:, 24:], expected, atol=1e-5, rtol=0
    )


def test_adapters_learn_from_both_heads():
    """The head on block 1 reaches the adapters of blocks 0 and 1, the final head those
    of all blocks."""
    classifier = make_classifier(tiny_vit(), blocks=(1,))
    final, early = (
        head(part)
        for head, part in zip(classifier.head.heads, inputs_of(classifier), strict=True)
    )
    names, parameters = zip(*classifier.adapted.named_parameters(), strict=True)
    trained = {
        name: parameter
        for name, parameter in zip(names, parameters, strict=True)
        if parameter.requires_grad
    }

    def gradients(loss):
        values = torch.autograd.grad(
            loss, trained.values(), retain_graph=True, allow_unused=True
        )
        return dict(zip(trained, values, strict=True))

    from_final = gradients(final.square().sum())
    from_early = gradients(early.square().sum())
    assert all(gradient.abs().max() > 0 for gradient in from_final.values())
    for name, gradient in from_early.items():
        is_later = "blocks/2/" in name
        assert (
            (gradient is None or not gradient.any())
            if is_later
            else gradient.abs().max() > 0
        )
    mean = gradients(classifier(IMAGES)[:, 0].sum())
    parts = gradients(final[:, 0].sum() / 2), gradients(early[:, 0].sum() / 2)
    for name, gradient in mean.items():
        assert close(
            [gradient],
            [parts[0][name] + (0 if parts[1][name] is None else parts[1][name])],
        )


def inputs_of(classifier):
    return classifier.head_inputs(IMAGES).chunk(2, dim=1)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("blocks", ["all", "last:1"])
def test_gradients_equal_those_of_a_plain_pass(checkpointing, blocks):
    """With training kernels, with recomputation, and with frozen blocks after the
    earliest head."""
    classifier = make_classifier(
        tiny_vit(), blocks=(0,), method=LoRA(rank=2, blocks=blocks)
    )
    vit = classifier.adapted.vit
    theta = classifier.theta
    outputs = record_blocks(vit)  # blocks with hooks run without kernels
    tokens = vit.forward_features(IMAGES)
    inputs = torch.cat([tokens[:, 0], outputs[0][:, 1:].mean(1)], dim=1)
    expected = torch.autograd.grad(classifier.head(inputs).square().sum(), theta)
    for block in vit.blocks:
        block._forward_hooks.clear()
    classifier.adapted.checkpointing = checkpointing
    gradients = torch.autograd.grad(classifier(IMAGES).square().sum(), theta)
    for gradient, value in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("blocks", [(2,), (0, 3), (-1,)])
def test_blocks_that_no_head_can_read(blocks):
    with pytest.raises(
        ValueError, match=mentions("3 blocks", "0 to 1", f"not {blocks[-1]}")
    ):
        make_classifier(tiny_vit(), blocks=blocks)


@torch.no_grad()
@pytest.mark.parametrize("kind", [CosineHead, nn.Linear])
def test_state_of_all_heads(kind):
    options = (10.0,) if kind is CosineHead else ()
    head = HeadAverage(
        kind(24, 3, *options), {1: kind(24, 3, *options), 0: kind(24, 3, *options)}
    )
    assert list(head.blocks) == ["0", "1"]
    first = Classifier(attach(tiny_vit(), LoRA(rank=2)), head, "token").eval()
    heads = {"head.final.weight", "head.blocks.0.weight", "head.blocks.1.weight"}
    assert heads <= set(first.learned_state())
    torch.manual_seed(7)
    other = HeadAverage(
        kind(24, 3, *options), {0: kind(24, 3, *options), 1: kind(24, 3, *options)}
    )
    second = Classifier(attach(tiny_vit(), LoRA(rank=2)), other, "token").eval()
    second.load_learned_state(first.learned_state())
    assert torch.equal(first(IMAGES), second(IMAGES))


def test_pooling():
    vit = load_backbone("vit_tiny_patch8_64.simship", 32).vit
    chips = torch.randn(2, 3, 32, 32)
    tokens = vit.forward_features(chips)
    assert torch.equal(extract_features(vit, chips, "token"), tokens[:, 0])
    assert torch.allclose(extract_features(vit, chips, "avg"), tokens[:, 1:].mean(1))
