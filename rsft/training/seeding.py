"""Seed the global random generators."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_generators(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch.

    Args:
        seed: the seed of the recipe.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
