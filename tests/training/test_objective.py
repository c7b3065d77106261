"""The loss of a step: mixing, extra chips, and weights of processes."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional as F

from rsft.training.objective import Mixing, Objective, blend, widen

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
LABELS = torch.tensor([0, 1, 1])
IMAGES = torch.arange(3.0).reshape(3, 1, 1, 1)
PLAIN = Objective(F.cross_entropy, lambda logits, labels: logits.sum())


@dataclass
class Extra:
    """Two chips whose loss is the sum of their logits."""

    inputs: torch.Tensor

    def loss(self, logits):
        return logits.sum()


def test_a_plain_step():
    assert PLAIN.inner_inputs(IMAGES) is IMAGES
    expected = F.cross_entropy(LOGITS, LABELS)
    assert PLAIN.inner_loss(LOGITS, LABELS).item() == pytest.approx(expected.item())
    assert PLAIN.outer_loss(LOGITS, LABELS).item() == 5
    weighted = replace(PLAIN, inner_weight=2.0, outer_weight=0.5)
    assert weighted.inner_loss(LOGITS, LABELS).item() == pytest.approx(
        2 * expected.item()
    )
    assert weighted.outer_loss(LOGITS, LABELS).item() == 2.5


def test_mixed_pairs_have_both_labels():
    order = torch.tensor([1, 2, 0])
    mixed = replace(PLAIN, mixing=Mixing(0.75, order))
    assert mixed.inner_inputs(IMAGES).flatten().tolist() == [0.25, 1.25, 1.5]
    expected = 0.75 * F.cross_entropy(LOGITS, LABELS)
    expected += 0.25 * F.cross_entropy(LOGITS, LABELS[order])
    assert mixed.inner_loss(LOGITS, LABELS).item() == pytest.approx(expected.item())
    pasted = replace(mixed, mixing=Mixing(0.75, order, lambda x, y, share: y))
    assert pasted.inner_inputs(IMAGES).flatten().tolist() == [1, 2, 0]


def test_extra_chips_stand_behind_the_labeled_ones_and_are_not_weighted():
    both = replace(
        PLAIN,
        extra=Extra(torch.full((2, 1, 1, 1), 9.0)),
        inner_weight=2.0,
        mixing=Mixing(1.0, torch.arange(3)),
    )
    assert both.inner_inputs(IMAGES).flatten().tolist() == [0, 1, 2, 9, 9]
    logits = torch.cat([LOGITS, torch.tensor([[3.0, 4.0], [5.0, 6.0]])])
    expected = 2 * F.cross_entropy(LOGITS, LABELS).item() + 18
    assert both.inner_loss(logits, LABELS).item() == pytest.approx(expected)


def test_losses_are_not_computed_in_half_precision():
    assert widen(LOGITS.bfloat16()).dtype == torch.float32
    assert widen(LOGITS.double()).dtype == torch.float64
    assert PLAIN.inner_loss(LOGITS.bfloat16(), LABELS).dtype == torch.float32
    assert blend(IMAGES, IMAGES[[2, 1, 0]], 0.5).flatten().tolist() == [1, 1, 1]
