import math

import pytest
import torch

from rsft.peft import (
    Adapter,
    AdaptFormer,
    BitFit,
    CompositeMethod,
    LoRA,
    LoTR,
    Modulator,
    Site,
    attach,
)
from tests.helpers.peft_models import method_id, tiny_vit, with_random_adapter

SITES = [Site(0, "q"), Site(1, "mlp1"), Site(2, "q"), Site(2, "mlp2")]


@pytest.mark.parametrize("start", [0.25, 1.0, 40.0])
def test_all_scales_start_at_init_scale(start):
    assert list(Modulator(SITES, start).scales().values()) == pytest.approx([start] * 4)


@pytest.mark.parametrize("start", [0, -1])
def test_init_scale_must_be_positive(start):
    with pytest.raises(ValueError, match=f"init_scale {start}"):
        Modulator(SITES, start)


def test_table_has_used_positions_and_nan_without_site():
    modulator = Modulator(SITES, 0.5)
    assert modulator.positions == ("q", "mlp1", "mlp2")
    nan = math.nan
    expected = torch.tensor([[0.5, nan, nan], [nan, 0.5, nan], [0.5, nan, 0.5]])
    assert torch.allclose(modulator.table(3), expected, equal_nan=True)


def test_table_of_two_methods(vit):
    method = CompositeMethod((LoRA(rank=2, positions="v"), AdaptFormer(dim=2)))
    modulator = attach(vit, method, learn_scales=True).modulator
    assert modulator.positions == ("v", "mlp") and modulator.sites[:2] == (
        Site(0, "v"),
        Site(0, "mlp"),
    )


def test_scales_can_be_set():
    modulator = Modulator(SITES)
    modulator.set_scales({"*": 2.0, "blocks.2.*": 3.0})
    modulator.set_scales({Site(0, "q"): 0})
    assert list(modulator.scales().values()) == pytest.approx([0, 2, 3, 3])
    assert modulator.gamma[0] == -math.inf


@pytest.mark.parametrize(
    ("values", "message"),
    [({"*.k": 1}, "'\\*.k' matches no site"), ({"*": -1}, "scale -1")],
)
def test_invalid_scales_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Modulator(SITES).set_scales(values)


def test_the_optimizer_does_not_change_frozen_scales(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2), learn_scales=True))
    modulator = adapted.modulator
    optimizer = torch.optim.Adam(adapted.gamma, lr=0.1)

    def step():
        optimizer.zero_grad()
        adapted(images).square().sum().backward()
        modulator.add_decay_toward_init(0.1)
        optimizer.step()

    step()
    before = modulator.scales()
    modulator.freeze("*.q")
    step()  # Adam's momentum moves every gamma
    after = modulator.scales()
    assert {site.position for site in before if before[site] != after[site]} == {
        "k",
        "v",
        "out",
        "mlp1",
        "mlp2",
    }
    assert torch.equal(adapted.adapter_state()["gamma"], modulator.effective_gamma())


def test_decay_is_toward_init_scale_and_not_toward_zero():
    modulator = Modulator(SITES, 1.0)
    modulator.gamma.grad = torch.zeros(4)
    modulator.add_decay_toward_init(0.5)
    assert modulator.gamma.grad.tolist() == [0] * 4
    modulator.gamma.data += 2
    modulator.freeze("blocks.1.*")
    modulator.set_scales({"*.mlp2": 0})
    modulator.add_decay_toward_init(0.5)
    assert modulator.gamma.grad.tolist() == pytest.approx([1, 0, 1, 0])


def test_scale_reaches_evaluation(vit, images):
    frozen = vit(images)
    adapted = with_random_adapter(attach(vit, LoRA(rank=2), learn_scales=True)).eval()
    before = adapted(images), vit(images)
    adapted.modulator.set_scales({"*": 0})
    assert all(
        torch.allclose(after, frozen, atol=1e-5)
        for after in (adapted(images), vit(images))
    )
    assert not any(torch.allclose(output, frozen, atol=1e-2) for output in before)
    assert torch.allclose(adapted.merge()(images), frozen, atol=1e-5)


def test_gamma_has_no_gradient_while_b_is_zero(vit, images):
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    adapted(images).square().sum().backward()
    assert adapted.modulator.gamma.grad.abs().max() == 0


@pytest.mark.parametrize(
    "method",
    [
        LoRA(rank=2),
        LoTR(rank=2, positions="qv"),
        AdaptFormer(dim=2),
        LoRA(rank=2, modulator="feature"),
    ],
    ids=method_id,
)
def test_pruned_sites(method, images, tmp_path):
    adapted = with_random_adapter(attach(tiny_vit(), method, learn_scales=True))
    count = len(adapted.sites)
    weak = adapted.sites[1], adapted.sites[-1]
    adapted.modulator.set_scales(dict.fromkeys(weak, 1e-9))
    before = adapted(images)
    parameters = len(adapted.theta)
    assert adapted.prune(1e-6) == weak
    assert torch.allclose(adapted(images), before, atol=1e-5)
    assert len(adapted.sites) == count - 2 and len(adapted.theta) < parameters
    assert [adapted.modulator.scales()[site] for site in weak] == [0, 0]
    adapted.save(tmp_path / "pruned.safetensors")
    again = attach(tiny_vit(), method, learn_scales=True)
    again.load(tmp_path / "pruned.safetensors")
    assert [again.modulator.scales()[site] for site in weak] == [0, 0]
    assert torch.equal(again(images), adapted(images))
    if not isinstance(method, AdaptFormer):
        assert torch.allclose(again.merge()(images), before, atol=1e-4)
    assert torch.equal(adapted.detach()(images), tiny_vit()(images))


def test_all_sites_pruned(vit, images):
    before = vit(images)
    adapted = with_random_adapter(attach(vit, LoRA(rank=2), learn_scales=True))
    assert len(adapted.prune(math.inf)) == 18
    assert adapted.theta == [] and torch.allclose(adapted(images), before, atol=1e-5)


def test_without_a_modulator(vit):
    with pytest.raises(ValueError, match="no learned scales"):
        attach(vit, LoRA()).prune(1)


@pytest.mark.parametrize(
    ("method", "message"),
    [(BitFit(), "bitfit has no sites"), (AdaptFormer(scale="learnable"), "learnable")],
)
def test_method_without_scales_has_no_modulator(vit, method, message):
    with pytest.raises(ValueError, match=message):
        attach(vit, method, learn_scales=True)
    attach(vit, method)


def test_a_site_with_several_factors_has_their_mean_as_its_scale():
    modulator = Modulator(SITES[:3], 0.5, widths=[2, 1, 3])
    assert (
        modulator.gamma.shape == (6,)
        and modulator.scale(0).shape == (2,)
        and modulator.scale(1).ndim == 0
    )
    with torch.no_grad():
        modulator.gamma[:2] = torch.tensor([0.0, 2.0])
    factors = modulator.factors()
    assert [len(values) for values in factors.values()] == [2, 1, 3]
    assert list(modulator.scales().values()) == pytest.approx(
        [(math.log(2) + 2.1269) / 2, 0.5, 0.5], abs=1e-4
    )
    modulator.freeze("blocks.0.*")
    modulator.gamma.data += 1
    modulator.gamma.grad = torch.zeros(6)
    modulator.add_decay_toward_init(1.0)
    assert modulator.gamma.grad.tolist() == pytest.approx([0, 0, 1, 1, 1, 1])
    assert torch.equal(modulator.factors()[SITES[0]], factors[SITES[0]])
    assert (
        torch.equal(modulator.scale(0), factors[SITES[0]])
        and not modulator.scale(0).requires_grad
    )
    modulator.set_scales({"*": 3.0, "blocks.2.*": 0})
    assert (
        modulator.scale(0).tolist() == pytest.approx([3, 3])
        and modulator.gamma[3:].tolist() == [-math.inf] * 3
    )
    modulator.load_gamma(torch.arange(6.0))
    assert modulator.effective_gamma().tolist() == list(range(6))


def test_factors_that_are_computed_together_are_those_of_each_site():
    modulator = Modulator(SITES[:3], 0.5, widths=[2, 1, 3])
    with torch.no_grad():
        modulator.gamma += torch.arange(6.0)
    single = [modulator.scale(index) for index in range(3)]
    with modulator.compute_together():
        together = [modulator.scale(index) for index in range(3)]
    torch.testing.assert_close(together, single)
    sum(x.sum() for x in together).backward()
    torch.testing.assert_close(modulator.gamma.grad, modulator.gamma.sigmoid())
    modulator.freeze("blocks.1.*")
    with modulator.compute_together():
        assert isinstance(modulator.scale(1), float)


@pytest.mark.parametrize("method", [LoRA, Adapter], ids=["lora", "adapter"])
def test_equal_factors_act_as_one_scale_and_others_on_their_feature(
    method, vit, images
):
    positions = {"positions": "2"} if method is LoRA else {}
    site = Site(2, "mlp2" if method is LoRA else "mlp")
    single = attach(
        tiny_vit(),
        method(**positions, blocks=[2], modulator="site"),
        learn_scales=True,
        init_scale=0.7,
    )
    several = attach(
        tiny_vit(),
        method(**positions, blocks=[2], modulator="feature"),
        learn_scales=True,
        init_scale=0.7,
    )
    for adapted in (single, several):
        generator = torch.Generator().manual_seed(3)
        for parameter in adapted.theta:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    assert torch.allclose(several(images), single(images), atol=1e-5)
    outputs = []  # of the MLP, before the residual and without the norm
    for scale in (0.0, 1.0, torch.linspace(0.1, 2, 24)):
        values = torch.as_tensor(scale).expand(24)
        hook = several.vit.blocks[2].mlp.register_forward_hook(
            lambda module, args, output: outputs.append(output)
        )
        with several.modulator.use_factors(values):
            several.vit(images)
        hook.remove()
    frozen, plain, changed = outputs
    assert torch.allclose(
        changed - frozen, (plain - frozen) * torch.linspace(0.1, 2, 24), atol=1e-4
    )
    assert several.sites == (site,)


def test_a_learnable_scale_and_one_learned_scale_exclude_each_other_but_factors_do_not(
    vit,
):
    method = AdaptFormer(dim=2, scale="learnable", modulator="feature")
    assert attach(vit, method, learn_scales=True).gamma[0].shape == (3 * 24,)
