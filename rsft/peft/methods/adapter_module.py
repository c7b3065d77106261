"""What a method adds to a network or trains in it: one module that can be put on, taken off and folded in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rsft.peft.sites import Site

Scale = Callable[[], Tensor | float]
"""Gives m_p as it is now."""

Undo = Callable[[], object]


class Part(nn.Module):
    """One method's share of an adapted network. Its own parameters are what it trains; the network's stay outside.

    A part is on the network at named places: sites, modules or parameters. Names of its modules and parameters hold "/"
    for ".", which torch does not allow there.

    Attributes:
        constants: the fixed m_p of every site; empty where the method has none, None where it learns one itself.
        scales: what gives m_p, by site, while it is installed.
        folds_last: whether it acts on the outputs of layers, so that what changes the layers is merged before it.
    """

    folds_last = False

    def __init__(self, constants: Mapping[Site, float | None] | None = None) -> None:
        super().__init__()
        self.constants = dict(constants or {})
        self.scales: dict[Site, Scale] = {}
        self._undo: dict[str, tuple[Undo, ...]] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where a scale acts."""
        return tuple(self.constants)

    @property
    def places(self) -> tuple[str, ...]:
        """Where it is on the network now: names of sites, modules or parameters."""
        return tuple(self._undo)

    def install(self, scales: Mapping[Site, Scale]) -> None:
        """Put it on the network; from now on m_p of a site comes from `scales`."""
        self.scales = dict(scales)
        self.put_on()

    def put_on(self) -> None:
        """Put it on at every place, and tell `placed` how to take it off again."""
        raise NotImplementedError

    def placed(self, place: str, *undo: Undo) -> None:
        """Remember how to leave a place; the last call is undone first."""
        self._undo[place] = undo

    def take_off(self, places: Iterable[str] | None = None) -> None:
        """Leave these places, or all, and with them the bytes that were there."""
        for place in reversed(self.places if places is None else tuple(places)):
            for undo in reversed(self._undo.pop(place)):
                undo()

    def drop(self, site: Site) -> None:
        """Give up a site, and its parameters."""
        self.take_off([str(site)])
        delattr(self, slashed(site))
        del self.constants[site], self.scales[site]

    @torch.no_grad()
    def merge(self) -> None:
        """Fold what can be folded into the network, in float32 at least; what cannot keeps its place."""

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, not copied."""
        return {name.replace("/", "."): tensor for name, tensor in self.state_dict().items()}


def slashed(name: object) -> str:
    """A dotted name as the name of a module or parameter."""
    return str(name).replace(".", "/")


def trained_type(tensor: Tensor) -> dict[str, Any]:
    """Device and number type of what is trained beside `tensor`: float32 where it is less."""
    return {"device": tensor.device, "dtype": torch.promote_types(tensor.dtype, torch.float32)}
