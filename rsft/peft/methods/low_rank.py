"""Low-rank additions at frozen linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from rsft.peft.kernels import Term, low_rank_linear
from rsft.peft.methods.adapter_module import Part
from rsft.peft.sites import Host, Site


class LowRank(Part):
    """m_p (x A) B at every site.

    Args:
        hosts: the layer of each site.
        constants: the fixed scale of each site.
        rates: the dropout of each site, on the input of A.
    """

    def __init__(
        self, hosts: Mapping[Site, Host], constants: Mapping[Site, float | None], rates: Mapping[Site, float]
    ) -> None:
        super().__init__(constants)
        self.hosts, self.rates = dict(hosts), dict(rates)

    def factors(self, site: Site) -> tuple[Tensor, Tensor]:
        """A^T (r, width_in) and B^T (rows, r) of a site."""
        raise NotImplementedError

    def term(self, site: Site) -> Term:
        """The addition at a site, with its dropout while this part is in training mode."""
        rate = self.rates[site] if self.training else 0.0
        return Term(self.hosts[site].rows, *self.factors(site), self.scales[site](), rate)

    def put_on(self) -> None:
        """Turn the layers into adapted ones."""
        for site in self.sites:
            layer = self.hosts[site].linear
            _join(layer, site, self)
            self.placed(str(site), partial(_leave, layer, site))

    @torch.no_grad()
    def merge(self) -> None:
        """W + m (A B)^T at every site."""
        for site in self.sites:
            weight = self.hosts[site].weight
            wide = torch.promote_types(weight.dtype, torch.float32)
            a, b = self.factors(site)
            weight.copy_(weight.to(wide) + self.scales[site]() * (b.to(wide) @ a.to(wide)))
        self.take_off()


class AdaptedLinear(nn.Linear):
    """A frozen linear layer with additions on the rows of its output that belong to each site.

    q, k and v stay one matrix product. A layer turns into this by its class alone, as in torch.nn.utils.parametrize, so
    that its name, its parameters and its hooks stay where they are.
    """

    additions: dict[Site, LowRank]

    def terms(self) -> list[Term]:
        """The additions as they are now."""
        return [part.term(site) for site, part in self.additions.items()]

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., width_in) -> (B, ..., width_out)."""
        if self.bias is None or not self.bias.requires_grad:
            return low_rank_linear(x, self.weight, self.bias, self.terms(), training=True)
        y = low_rank_linear(x, self.weight, None, self.terms(), training=True)
        return y + self.bias.to(y.dtype)  # a bias that BitFit trains


def _join(layer: nn.Linear, site: Site, part: LowRank) -> None:
    if not isinstance(layer, AdaptedLinear):
        layer.__class__ = AdaptedLinear
        vars(layer)["additions"] = {}
    vars(layer)["additions"][site] = part


def _leave(layer: nn.Linear, site: Site) -> None:
    del vars(layer)["additions"][site]
    if not vars(layer)["additions"]:
        del vars(layer)["additions"]
        layer.__class__ = nn.Linear
