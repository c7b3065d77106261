"""Attach a method to a network, or one that was saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import nn

from rsft.peft.methods.adapter_module import Part, Scale, Undo
from rsft.peft.methods.low_rank import AdaptedLinear
from rsft.peft.methods.registry import Method, rebuild
from rsft.peft.model.adapted_model import Adapted
from rsft.peft.model.stage_runner import Runner
from rsft.peft.model.stages import Trunk
from rsft.peft.model.state_files import read_tensors
from rsft.peft.modulator import Modulator
from rsft.peft.sites import POSITIONS, Site, call_fused_layers

_MARK = "adapted_by"  # on the network, while something is attached to it


def attach(vit: nn.Module, method: Method, *, modulated: bool = False, start: float = 1.0) -> Adapted:
    """Freeze `vit`, in evaluation mode, and put `method` on it.

    Additive methods leave the outputs as they are until something is learned. Compile afterwards, not before.

    Args:
        vit: a timm vision transformer.
        method: such as LoRA(rank=4, positions="qkvo12", blocks="all").
        modulated: learn one scale a site (MetaPEFT) instead of the method's constant.
        start: the modulator's value at the beginning.

    Raises:
        ValueError: a site or setting that the network does not have, a method without sites to modulate, methods that
            get into each other's way, or a network that is adapted already.
    """
    if hasattr(vit, _MARK):
        raise ValueError(f"the network is adapted already, by {getattr(vit, _MARK)}: detach or merge first")
    vit.requires_grad_(False).eval()
    runner, parts = Runner(Trunk(vit)), list(method.parts(vit))
    modulator = _modulator(parts, method, start).to(next(vit.parameters()).device) if modulated else None
    _must_not_meet(parts)
    setattr(vit, _MARK, method.name)
    undo: list[Undo] = [partial(delattr, vit, _MARK), *call_fused_layers(vit)]
    adapted = Adapted(runner, method, parts, modulator, undo)
    try:
        for part in parts:
            part.install({site: _scale(part, site, modulator) for site in part.sites})
        _must_be_frozen(vit)
    except ValueError:
        adapted.detach()
        raise
    return adapted


def load(vit: nn.Module, path: Path | str) -> Adapted:
    """Attach what `Adapted.save` wrote to a network like the one that it was learned on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, was not written by `Adapted.save`, or does not fit the network.
    """
    _, metadata = read_tensors(Path(path))
    if "rsft.peft" not in metadata:
        raise ValueError(f"{path} names no method: it was not written by Adapted.save")
    about = json.loads(metadata["rsft.peft"])
    adapted = attach(vit, rebuild(about["method"]), modulated=about["modulated"])
    try:
        adapted.load(path)
    except ValueError:
        adapted.detach()
        raise
    return adapted


def _modulator(parts: Sequence[Part], method: Method, start: float) -> Modulator:
    constants = {site: constant for part in parts for site, constant in part.constants.items()}
    if not constants:
        raise ValueError(f"{method.name} has no sites, so nothing to modulate")
    if None in constants.values():
        raise ValueError("a learnable scale and a modulator would learn the same number: choose one")
    return Modulator(sorted(constants, key=lambda site: (site.block, POSITIONS.index(site.position))), start)


def _must_not_meet(parts: Sequence[Part]) -> None:
    seen: set[object] = set()
    for part in parts:
        own: set[object] = {*part.sites, *part.state()}
        if seen & own:
            raise ValueError(f"two methods meet at {min(map(str, seen & own))}: choose other positions or blocks")
        seen |= own


def _must_be_frozen(vit: nn.Module) -> None:
    for name, module in vit.named_modules():
        if isinstance(module, AdaptedLinear) and module.weight.requires_grad:
            raise ValueError(f"{name} is adapted and its weight is trained: choose other blocks for one of the methods")


def _scale(part: Part, site: Site, modulator: Modulator | None) -> Scale:
    if modulator is not None:
        return partial(modulator.scale, modulator.sites.index(site))
    constant = part.constants[site]
    return partial(float, 1.0 if constant is None else constant)
