"""How much the modules at each site add to what is frozen there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.models.classifier import Classifier
from rsft.peft import POSITIONS, Site
from rsft.peft.methods.adapter_module import slashed
from rsft.peft.methods.bottleneck import Bottlenecks
from rsft.peft.methods.low_rank import LowRank
from rsft.peft.sites import blocks_of

Note = Callable[[Site, Tensor, Tensor], None]  # site, what is added, what is there; both (B, ..., width)


@torch.inference_mode()
def contributions(classifier: Classifier, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[Site, float]:
    """m_p ||f_p(x)|| / ||W_p x|| of every site of an unmerged classifier, the mean over chips.

    The norms are over all tokens and features of a chip. What is there is W_p x without bias at a linear layer, and the
    output of the MLP at a bottleneck. Methods that add nothing (BitFit, prompts, SSF) have no site.
    """
    shares: dict[Site, list[Tensor]] = {}

    def note(site: Site, added: Tensor, there: Tensor) -> None:
        share = added.flatten(1).norm(dim=1) / there.flatten(1).norm(dim=1)
        shares.setdefault(site, []).append(share.float().cpu())

    device = next(classifier.parameters()).device
    with _watched(classifier, note):
        for inputs, _ in batches:
            classifier.features(inputs.to(device))
    return {site: float(torch.cat(shares[site]).mean()) for site in sorted(shares, key=_forward_order)}


def _forward_order(site: Site) -> tuple[int, int]:
    return site.block, POSITIONS.index(site.position)


@contextmanager
def _watched(classifier: Classifier, note: Note) -> Iterator[None]:
    blocks = blocks_of(classifier.adapted.vit)
    handles = []
    for part in classifier.adapted.parts:
        for site in part.sites:
            if isinstance(part, LowRank):
                hook = partial(_at_linear, part, site, note)
                handles.append(part.hosts[site].linear.register_forward_hook(hook))
            elif isinstance(part, Bottlenecks):
                added: list[Tensor] = []
                module = part.get_submodule(slashed(site))
                handles.append(module.register_forward_hook(partial(_keep, added)))
                mlp = cast(nn.Module, blocks[site.block].mlp)
                handles.append(mlp.register_forward_hook(partial(_at_mlp, site, added, note)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _at_linear(part: LowRank, site: Site, note: Note, layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
    a, b = part.factors(site)
    added = F.linear(F.linear(args[0], a), b) * part.scales[site]()
    note(site, added, F.linear(args[0], part.hosts[site].weight))


def _keep(added: list[Tensor], module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
    added.append(out)


def _at_mlp(site: Site, added: list[Tensor], note: Note, mlp: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
    own = added.pop()  # the part's own hook, which ran before, has added it to the output
    note(site, own, out - own)
