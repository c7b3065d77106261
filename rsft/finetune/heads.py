"""How a head starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def start_at_class_means(head: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Set each class's weight to the L2-normalised mean of its normalised features (N, D); a bias becomes 0.

    Raises:
        ValueError: a class without a training chip.
    """
    weight, bias = head.weight, getattr(head, "bias", None)
    assert isinstance(weight, Tensor)
    counts = torch.bincount(labels, minlength=len(weight))
    if not counts.all():
        raise ValueError(f"classes {(counts == 0).nonzero().flatten().tolist()} have no training chip")
    sums = torch.zeros_like(weight).index_add_(0, labels, F.normalize(features, dim=1))
    weight.copy_(F.normalize(sums, dim=1))
    if isinstance(bias, Tensor):
        bias.zero_()
