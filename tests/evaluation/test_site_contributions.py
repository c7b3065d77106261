import pytest
import timm
import torch
from torch import nn

from rsft.evaluation.site_contributions import measure_contributions
from rsft.models.classifier import Classifier
from rsft.peft import METHODS, AdaptFormer, BitFit, CompositeMethod, LoRA, Site, attach

BATCHES = [
    (
        torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)),
        torch.zeros(2),
    )
    for i in range(2)
]


def make_classifier(method, **options):
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0)
    model = attach(vit, method, **options)
    with torch.no_grad():
        for parameter in model.theta:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return Classifier(model, nn.Linear(192, 2), "token").eval()


def test_a_contribution_is_the_norm_of_what_merging_adds():
    classifier = make_classifier(LoRA(positions="q2"), learn_scales=True)
    shares = measure_contributions(classifier, BATCHES)
    assert list(shares) == [
        Site(0, "q"),
        Site(0, "mlp2"),
        Site(1, "q"),
        Site(1, "mlp2"),
    ]
    vit = classifier.adapted.vit
    inputs = []
    before = vit.blocks[0].attn.qkv.weight[:192].clone()
    hook = vit.blocks[0].attn.qkv.register_forward_hook(
        lambda layer, args, out: inputs.append(args[0])
    )
    with torch.no_grad():
        for images, _ in BATCHES:
            classifier.features(images)
    hook.remove()
    classifier.adapted.merge()
    added = vit.blocks[0].attn.qkv.weight[:192] - before
    x = torch.cat(inputs)
    share = (x @ added.T).flatten(1).norm(dim=1) / (x @ before.T).flatten(1).norm(dim=1)
    assert shares[Site(0, "q")] == pytest.approx(float(share.mean()), rel=1e-3)


def test_a_contribution_is_proportional_to_the_scale():
    classifier = make_classifier(LoRA(positions="q"), learn_scales=True)
    before = measure_contributions(classifier, BATCHES)
    classifier.adapted.modulator.set_scales({"blocks.1.q": 0.0})
    after = measure_contributions(classifier, BATCHES)
    assert after[Site(1, "q")] == 0 and after[Site(0, "q")] == pytest.approx(
        before[Site(0, "q")]
    )


@pytest.mark.parametrize("name", ["adapter", "adaptformer"])
def test_a_bottleneck_contributes_what_it_adds_to_the_mlp(name):
    classifier = make_classifier(METHODS[name](dim=4, blocks=[0], scale=2.0))
    shares = measure_contributions(classifier, BATCHES[:1])
    with_module = output_of_first_mlp(classifier)
    classifier.adapted.detach()
    without_module = output_of_first_mlp(classifier)
    share = (with_module - without_module).flatten(1).norm(
        dim=1
    ) / without_module.flatten(1).norm(dim=1)
    assert shares == {Site(0, "mlp"): pytest.approx(float(share.mean()), rel=1e-4)}


@torch.no_grad()
def output_of_first_mlp(classifier):
    outputs = []
    hook = classifier.adapted.vit.blocks[0].mlp.register_forward_hook(
        lambda mlp, args, out: outputs.append(out)
    )
    classifier.features(BATCHES[0][0])
    hook.remove()
    return outputs[0]


def test_two_methods_and_a_method_without_contributions():
    classifier = make_classifier(
        CompositeMethod((LoRA(positions="qv"), AdaptFormer(dim=4)))
    )
    sites = [str(site) for site in measure_contributions(classifier, BATCHES)]
    assert sites == [
        f"blocks.{block}.{position}"
        for block in (0, 1)
        for position in ("q", "v", "mlp")
    ]
    assert measure_contributions(make_classifier(BitFit()), BATCHES) == {}


def test_all_hooks_are_removed():
    classifier = make_classifier(LoRA())
    measure_contributions(classifier, BATCHES)
    assert not any(module._forward_hooks for module in classifier.modules())
