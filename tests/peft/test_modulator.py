import math

import pytest
import torch

from rsft.peft import LoRA, Modulator, Site, attach

SITES = [Site(0, "q"), Site(2, "mlp2")]


@pytest.mark.parametrize("start", [0.25, 1.0, 4.0])
def test_starts_at_start(start):
    assert list(Modulator(SITES, start).values().values()) == pytest.approx([start, start])


def test_start_must_be_positive():
    with pytest.raises(ValueError, match="start 0"):
        Modulator(SITES, 0)


def test_table_has_gaps_where_no_site_is():
    table = Modulator(SITES).table(3)
    assert table.shape == (3, 6)
    assert table[0, 0] == pytest.approx(1) and table[2, 5] == pytest.approx(1)
    assert int(table.isnan().sum()) == 16


def test_pull_is_toward_the_start_not_toward_zero():
    modulator = Modulator(SITES, 1.0)
    modulator.gamma.grad = torch.zeros(2)
    modulator.pull(0.5)
    assert modulator.gamma.grad.tolist() == [0, 0]
    modulator.gamma.data += 2
    modulator.pull(0.5)
    assert modulator.gamma.grad.tolist() == pytest.approx([1, 1])


def test_scale_reaches_evaluation(vit, images):
    adapted = attach(vit, LoRA(rank=2), modulated=True)
    for parameter in adapted.theta:
        parameter.data.normal_()
    before = adapted(images)
    adapted.modulator.gamma.data.fill_(-math.inf)  # m = 0: the frozen network
    frozen = adapted(images)
    assert not torch.allclose(before, frozen)
    assert torch.allclose(frozen, adapted.detach()(images), atol=1e-6)


def test_gamma_has_no_gradient_while_b_is_zero(vit, images):
    adapted = attach(vit, LoRA(rank=2), modulated=True)
    adapted(images).square().sum().backward()
    assert adapted.modulator.gamma.grad.abs().max() == 0
