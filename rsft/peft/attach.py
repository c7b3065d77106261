"""Attach additive modules to a frozen transformer, and take them off or fold them in again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from rsft.peft.methods import Additive, Method, Scale
from rsft.peft.modulator import Modulator
from rsft.peft.sites import Host, Site, find_host


class AdaptedLinear(nn.Module):
    """A frozen linear layer plus m_p f_p on the rows of its output that belong to each site.

    q, k and v stay one matrix product; their deltas are added to its slices.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.additions: list[tuple[slice, Additive, Scale]] = []

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width_in) -> (B, N, width_out)."""
        y: Tensor = self.base(x)
        for rows, module, scale in self.additions:
            y[..., rows].add_(module(x, scale()))
        return y


class Adapted(nn.Module):
    """A frozen transformer with a method attached; parameters split into theta (modules) and gamma (modulator)."""

    modulator: Modulator | None

    def __init__(self, vit: nn.Module, method: Method, modulator: Modulator | None, hosts: Mapping[Site, Host]) -> None:
        super().__init__()
        self.vit, self.method, self.modulator = vit, method, modulator
        self.hosts = dict(hosts)
        self.modules_at: dict[Site, Additive] = {}
        self._state = "detached"
        for site, host in self.hosts.items():
            weight = host.weight
            module = method.module(weight.shape[1], len(weight[host.rows]))
            self.modules_at[site] = module.to(weight.device)
        # a ModuleDict's keys must hold no dot
        self.additive = nn.ModuleDict({str(site).replace(".", "/"): m for site, m in self.modules_at.items()})
        self._attach()

    @property
    def sites(self) -> tuple[Site, ...]:
        """The adapted sites, in forward order."""
        return tuple(self.hosts)

    @property
    def theta(self) -> list[nn.Parameter]:
        """Parameters of the additive modules: the inner loop's."""
        return list(self.additive.parameters())

    @property
    def gamma(self) -> list[nn.Parameter]:
        """The modulator's parameter: the outer loop's, and never the inner one's."""
        return [] if self.modulator is None else [self.modulator.gamma]

    def forward(self, x: Tensor) -> Tensor:
        """The transformer's own forward."""
        output: Tensor = self.vit(x)
        return output

    def adapter_state(self) -> dict[str, Tensor]:
        """Everything that was learned here: "blocks.0.q.a", ..., and "gamma" with a modulator."""
        state = {key.replace("/", "."): value for key, value in self.additive.state_dict().items()}
        if self.modulator is not None:
            state["gamma"] = self.modulator.gamma.detach()
        return state

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `adapter_state` gave.

        Raises:
            ValueError: a key that is missing, unknown or of another shape.
        """
        own = self.adapter_state()
        wrong = sorted(set(own) ^ set(state)) or [key for key in own if own[key].shape != state[key].shape]
        if wrong:
            raise ValueError(f"{len(wrong)} keys do not fit the network, the first: {', '.join(wrong[:3])}")
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(state[key])

    def detach(self) -> nn.Module:
        """Take the modules off and return the transformer, its bytes as they were.

        Raises:
            ValueError: it is detached or merged already.
        """
        self._leave("detached")
        return self.vit

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Fold the modules into the weights, in float32, and return the transformer.

        Raises:
            ValueError: it is detached or merged already.
        """
        self._leave("merged")
        for index, (site, host) in enumerate(self.hosts.items()):
            rows = host.weight[host.rows]
            rows.copy_(rows.float() + self.modules_at[site].weight(self._scale(index)()))
        return self.vit

    def _attach(self) -> None:
        for index, (site, host) in enumerate(self.hosts.items()):
            layer = host.linear
            if not isinstance(layer, AdaptedLinear):
                layer = AdaptedLinear(layer)
                setattr(host.parent, host.name, layer)
            layer.additions.append((host.rows, self.modules_at[site], self._scale(index)))
        self._state = "attached"

    def _scale(self, index: int) -> Scale:
        if self.modulator is not None:
            return partial(self.modulator.scale, index)
        return self.method.fixed_scale

    def _leave(self, state: str) -> None:
        if self._state != "attached":
            raise ValueError(f"the modules are {self._state} already")
        for host in self.hosts.values():
            if isinstance(host.linear, AdaptedLinear):
                setattr(host.parent, host.name, host.linear.base)
        self._state = state


def attach(vit: nn.Module, method: Method, *, modulated: bool = False, start: float = 1.0) -> Adapted:
    """Freeze `vit` and add `method` at its sites; the outputs stay as they are until something is learned.

    Args:
        vit: a timm vision transformer.
        method: such as LoRA(rank=4, positions="qkvo12", blocks="all").
        modulated: learn one scale a site (MetaPEFT) instead of the method's constant.
        start: the modulator's value at the beginning.

    Raises:
        ValueError: a site that the network does not have, or a network that is adapted already.
    """
    if any(isinstance(module, AdaptedLinear) for module in vit.modules()):
        raise ValueError("the network is adapted already: detach or merge first")
    vit.requires_grad_(False)
    depth = len(vit.blocks)  # type: ignore[arg-type]
    sites = method.sites(depth)
    modulator = Modulator(sites, start).to(next(vit.parameters()).device) if modulated else None
    return Adapted(vit, method, modulator, {site: find_host(vit, site) for site in sites})
