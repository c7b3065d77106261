"""A frozen transformer with methods on it: its sites, its state, its end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rsft.peft.methods.adapter_module import Part, Undo
from rsft.peft.methods.registry import Method, describe
from rsft.peft.model.forward import Passes
from rsft.peft.model.stage_runner import Runner
from rsft.peft.model.state_files import read_tensors, write_tensors
from rsft.peft.modulator import Modulator
from rsft.peft.sites import POSITIONS, Site


class Adapted(Passes):
    """A frozen transformer with methods on it; parameters split into theta (parts) and gamma (modulator).

    Made by `rsft.peft.attach`. The transformer itself gives the adapted outputs too; run through here it takes less
    time and memory, and knows `joint`, `checkpointing` and `class_token_only`.

    Attributes:
        vit: the transformer, always in evaluation mode.
        method: what was attached.
        additive: the parts; their dropout acts in training mode.
        modulator: one learned scale a site, or None.
        unmerged: after `merge`, the sites, modules or parameters that could not be folded and stay as modules.
    """

    def __init__(
        self,
        runner: Runner,
        method: Method,
        parts: Sequence[Part],
        modulator: Modulator | None,
        undo: Sequence[Undo],
    ) -> None:
        super().__init__(runner, parts, modulator)
        self.method = method
        self.unmerged: tuple[str, ...] = ()
        self._undo = list(undo)
        self._state, self._halved = "attached", False

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that a scale acts on, in forward order."""
        sites = [site for part in self.parts for site in part.sites]
        return tuple(sorted(sites, key=lambda site: (site.block, POSITIONS.index(site.position))))

    @property
    def pruned(self) -> tuple[Site, ...]:
        """The sites that were dropped because of their scale."""
        there = set(self.sites)
        return () if self.modulator is None else tuple(site for site in self.modulator.sites if site not in there)

    def adapter_state(self) -> dict[str, Tensor]:
        """Everything that was learned here: "blocks.0.q.a", ..., and "gamma" with a modulator, -inf at pruned sites."""
        state = {name: tensor for part in self.parts for name, tensor in part.state().items()}
        return state if self.modulator is None else state | {"gamma": self.modulator.current()}

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `adapter_state` gave; sites that were pruned there are pruned here.

        Raises:
            ValueError: a key that is missing, unknown or of another shape, or it is detached or merged already.
        """
        self._must_be_attached()
        pruned = self._pruned_in(state)
        own = {key: value for key, value in self.adapter_state().items() if not key.startswith(pruned)}
        wrong = sorted(set(own) ^ set(state)) or [key for key in own if own[key].shape != state[key].shape]
        if wrong:
            raise ValueError(f"{len(wrong)} keys do not fit the network, the first: {', '.join(wrong[:3])}")
        self._drop([site for site in self.sites if f"{site}." in pruned])
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(state[key])
        if self.modulator is not None:
            self.modulator.load(own["gamma"])

    def save(self, path: Path | str) -> None:
        """Write method and state as a safetensors file, whole or not at all; `rsft.peft.load` opens it."""
        about = {"method": describe(self.method), "modulated": self.modulator is not None}
        write_tensors(Path(path), self.adapter_state(), {"rsft.peft": json.dumps(about)})

    def load(self, path: Path | str) -> None:
        """Take back what `save` wrote, from a network that was adapted in the same way.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or does not fit.
        """
        try:
            self.load_adapter_state(read_tensors(Path(path))[0])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def prune(self, below: float) -> tuple[Site, ...]:
        """Drop the sites whose m is less than `below`, with their parameters, and return them.

        Raises:
            ValueError: there is no modulator, or it is detached or merged already.
        """
        if self.modulator is None:
            raise ValueError("there is no modulator to prune by")
        self._must_be_attached()
        weak = [site for site, m in self.modulator.values().items() if m < below and site in self.sites]
        self._drop(weak)
        return tuple(weak)

    def half_frozen(self, dtype: torch.dtype = torch.bfloat16) -> Adapted:
        """Hold the frozen matrices in a half type, for use under torch.autocast; all that is trained stays in float32.

        There is no way back: `detach` gives the rounded network, and `merge` is refused.
        """
        for module in self.vit.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.requires_grad:
                module.weight.data = module.weight.data.to(dtype)
        self._halved = True
        return self

    def detach(self) -> nn.Module:
        """Take everything off and return the transformer, its bytes as they were.

        Raises:
            ValueError: it is detached or merged already.
        """
        self._must_be_attached()
        self._state = "detached"
        for part in reversed(self.parts):
            part.take_off()
        self._restore()
        return self.vit

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Fold what can be folded into the weights, in float32, and return the transformer.

        Adapters, prompts and shifts of layers without bias stay on it as modules; `unmerged` names them.

        Raises:
            ValueError: it is detached or merged already, or its weights are no longer in full precision.
        """
        self._must_be_attached()
        if self._halved:
            raise ValueError("the frozen weights are rounded: save, load into the full network and merge there")
        self._state = "merged"
        for part in sorted(self.parts, key=lambda part: part.folds_last):
            part.merge()
        self.unmerged = tuple(place for part in self.parts for place in part.places)
        if not self.unmerged:
            self._restore()
        return self.vit

    def _pruned_in(self, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Beginnings of the keys that a state lacks because their site is off."""
        gamma = state.get("gamma")
        if self.modulator is None or gamma is None or gamma.shape != self.modulator.gamma.shape:
            return ()
        off = [f"{site}." for site, value in zip(self.modulator.sites, gamma, strict=True) if value == -math.inf]
        return tuple(start for start in off if not any(key.startswith(start) for key in state))

    def _drop(self, sites: Sequence[Site]) -> None:
        for part in self.parts:
            for site in set(part.sites) & set(sites):
                part.drop(site)
        if self.modulator is not None and sites:
            self.modulator.set(dict.fromkeys(map(str, sites), 0.0))

    def _restore(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _must_be_attached(self) -> None:
        if self._state != "attached":
            raise ValueError(f"the modules are {self._state} already")
