"""The base class of PEFT modules: a module that is injected into a network, removed from it, or merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rsft.peft.sites import Site

ScaleFn = Callable[[], Tensor | float]
"""Returns the current scale m_p of a site."""

Undo = Callable[[], object]
"""Reverts one change to the network."""


class AdapterModule(nn.Module):
    """Base class of PEFT modules: trained parameters that one PEFT method adds to a frozen network.

    Names of its submodules and parameters have "/" instead of ".", which torch does not allow.

    Attributes:
        fixed_scales: the constant scale of every site; empty for a method without scales, None at a site where the
            module learns its own scale.
        scale_fns: site -> function that returns the current scale; empty before `install`.
        kernels: whether low-rank layers use hand-written gradients; None decides by the device of their input.
        merge_last: whether `AdaptedModel.merge` merges the module after the others, because it acts on their outputs.
    """

    merge_last = False

    def __init__(self, fixed_scales: Mapping[Site, float | None] | None = None) -> None:
        super().__init__()
        self.fixed_scales = dict(fixed_scales or {})
        self.scale_fns: dict[Site, ScaleFn] = {}
        self.kernels: bool | None = None
        self._undo: dict[str, tuple[Undo, ...]] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that a scale acts on."""
        return tuple(self.fixed_scales)

    @property
    def placements(self) -> tuple[str, ...]:
        """Names of the sites, modules or parameters of the network at which the module is injected now."""
        return tuple(self._undo)

    def install(self, scale_fns: Mapping[Site, ScaleFn], kernels: bool | None = None) -> None:
        """Inject the module into the network.

        Args:
            scale_fns: site -> function that returns the current scale.
            kernels: whether low-rank layers use hand-written gradients; None decides by the device of their input.
        """
        self.scale_fns, self.kernels = dict(scale_fns), kernels
        self.inject()

    def output_parameters(self, site: Site) -> list[nn.Parameter]:
        """Return the parameters of a site in which its output is linear, such as B of LoRA.

        The scale multiplies the output, so scale and these parameters can trade a factor without a change of the
        function. `AdaptedModel.in_function_space` uses that.

        Args:
            site: one of `sites`.

        Returns:
            The parameters; none for a module without scales.
        """
        return []

    def inject(self) -> None:
        """Change the network wherever the module acts, and register with `add_undo` how to revert it."""
        raise NotImplementedError

    def add_undo(self, placement: str, *undo: Undo) -> None:
        """Register how to revert the changes at a placement.

        Args:
            placement: name of a site, module or parameter of the network.
            undo: functions that revert the changes; the last one is called first.
        """
        self._undo[placement] = undo

    def remove(self, placements: Iterable[str] | None = None) -> None:
        """Remove the module and restore the network bit for bit.

        Args:
            placements: where to remove it (default: everywhere).
        """
        for placement in reversed(self.placements if placements is None else tuple(placements)):
            for undo in reversed(self._undo.pop(placement)):
                undo()

    def drop_site(self, site: Site) -> None:
        """Remove a site together with its parameters.

        Args:
            site: one of `sites`.
        """
        self.remove([str(site)])
        delattr(self, mangle_name(site))
        del self.fixed_scales[site], self.scale_fns[site]

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the module into the network's weights, at least in float32; what cannot be folded stays injected."""

    def named_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the module, without copies.

        Returns:
            Dotted name, such as "blocks.0.q.a" -> tensor.
        """
        return {name.replace("/", "."): tensor for name, tensor in self.state_dict().items()}


def mangle_name(name: object) -> str:
    """Return a dotted name in the form that torch allows for modules and parameters.

    Args:
        name: a site, or a name such as "blocks.0.q"; each "." becomes "/".
    """
    return str(name).replace(".", "/")


def trainable_kwargs(tensor: Tensor) -> dict[str, Any]:
    """Return device and dtype for trained parameters that belong to a frozen one; the dtype is at least float32.

    Args:
        tensor: the frozen parameter.

    Returns:
        Keyword arguments "device" and "dtype" of torch factory functions.
    """
    return {"device": tensor.device, "dtype": torch.promote_types(tensor.dtype, torch.float32)}
