"""A frozen transformer with PEFT modules: sites, state, pruning, merging."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from rsft.peft.methods.registry import Method, method_to_dict
from rsft.peft.model.forward import ForwardPasses
from rsft.peft.model.stage_runner import StageRunner
from rsft.peft.model.state_files import read_tensors, write_tensors
from rsft.peft.modulator import Modulator
from rsft.peft.modules.adapter_module import AdapterModule, NamedTensors, Undo
from rsft.peft.sites import Site, in_forward_order
from rsft.types import Names


class AdaptedModel(ForwardPasses):
    """A frozen transformer with PEFT modules.

    Its parameters are theta (modules) and gamma (modulator).

    `rsft.peft.attach` returns it. The transformer computes the adapted outputs when it
    is called by itself, too. A forward pass through this object takes less time and
    memory, and supports `joint`, `checkpointing` and `class_token_only`.

    Attributes:
        vit: the transformer, always in evaluation mode.
        method: the attached method.
        train_also: names of modules of the transformer that are trained beside the PEFT
            modules.
        additive: the PEFT modules; their dropout acts in training mode.
        modulator: one learned scale for every site, or None.
        unmerged: names of what `merge` could not fold into the weights: sites, modules
            or parameters.

    Example:
        >>> import timm
        >>> from rsft.peft import LoRA, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> method = LoRA(positions="qv", blocks="last:1")
        >>> adapted = attach(vit, method, learn_scales=True)
        >>> adapted.forward_features(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 5, 192])
        >>> adapted.merge() is vit
        True
    """

    def __init__(
        self,
        runner: StageRunner,
        method: Method,
        adapter_modules: Sequence[AdapterModule],
        modulator: Modulator | None,
        undo: Sequence[Undo],
        train_also: Sequence[str] = (),
    ) -> None:
        super().__init__(runner, adapter_modules, modulator)
        self.method = method
        self.train_also = tuple(train_also)
        self.unmerged: Names = ()
        self._undo = list(undo)
        self._status = "attached"
        self._has_rounded_weights = False

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that a scale acts on, in forward order."""
        sites = (module.sites for module in self.adapter_modules)
        return in_forward_order(chain.from_iterable(sites))

    def adapter_state(self) -> NamedTensors:
        """Return all learned tensors.

        Returns:
            Name, such as "blocks.0.q.a" -> tensor; with a modulator also "gamma", which
            is -inf at pruned sites.
        """
        state: NamedTensors = {}
        for module in self.adapter_modules:
            state |= module.named_tensors()
        if self.modulator:
            state["gamma"] = self.modulator.effective_gamma()
        return state

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state from `adapter_state`.

        Sites that the state lacks, because they were pruned, are pruned.

        Args:
            state: name -> tensor.

        Raises:
            ValueError: a key is missing, unknown or of another shape, or the modules
                are detached or merged already.
        """
        self._require_attached()
        pruned = self.pruned_prefixes(state)
        expected = {
            key: value
            for key, value in self.adapter_state().items()
            if not key.startswith(pruned)
        }
        shapes = {(key, tensor.shape) for key, tensor in expected.items()}
        given = {(key, tensor.shape) for key, tensor in state.items()}
        wrong = sorted({key for key, _ in shapes ^ given})
        if wrong:
            raise ValueError(
                f"{len(wrong)} keys do not fit the network, such as"
                f" {', '.join(wrong[:3])}"
            )
        self._drop_sites([site for site in self.sites if f"{site}." in pruned])
        with torch.no_grad():
            for key, value in expected.items():
                value.copy_(state[key])
        if self.modulator:
            self.modulator.load_gamma(expected["gamma"])

    def save(self, path: Path | str) -> None:
        """Write method and state to a safetensors file, atomically.

        `rsft.peft.load` reads it.

        Args:
            path: the path of the file.
        """
        metadata = {
            "method": method_to_dict(self.method),
            "modulated": self.modulator is not None,
        }
        metadata |= {"train_also": self.train_also} if self.train_also else {}
        write_tensors(
            Path(path), self.adapter_state(), {"rsft.peft": json.dumps(metadata)}
        )

    def load(self, path: Path | str) -> None:
        """Load a file that `save` wrote for a network with the same method.

        Args:
            path: the path of the file.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged, or does not fit.
        """
        try:
            self.load_adapter_state(read_tensors(Path(path))[0])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @contextmanager
    def in_function_space(self) -> Iterator[None]:
        """Fold the scale of every site into its module until the block ends.

        Gradients are converted too.

        An optimizer step in the block changes the outputs of a module in the same way
        at every scale. Without it, SGD moves the output of LoRA at a rate proportional
        to the square of the scale: one factor comes from the gradient of B, the other
        from the product of the scale and the step.

        Yields:
            Nothing. Within the block, parameters are those at a scale of 1.
        """
        pairs = []
        for module in self.adapter_modules:
            for site in module.sites:
                scale = torch.as_tensor(
                    module.scale_fns[site](), device=next(self.vit.parameters()).device
                ).detach()
                scale = torch.where(scale == 0, torch.ones_like(scale), scale)
                # its first axis is that of the output features
                for parameter in module.output_parameters(site):
                    pairs.append(
                        (parameter, scale.reshape(-1, *[1] * (parameter.ndim - 1)))
                    )
        with torch.no_grad():
            for parameter, scale in pairs:
                parameter.mul_(scale)
                if parameter.grad is not None:
                    parameter.grad.div_(scale)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, scale in pairs:
                    parameter.div_(scale)

    def prune(self, threshold: float) -> tuple[Site, ...]:
        """Drop the sites with small scales, together with their parameters.

        Args:
            threshold: the smallest scale that stays.

        Returns:
            The dropped sites.

        Raises:
            ValueError: the model has no modulator, or the modules are detached or
                merged already.
        """
        if not self.modulator:
            raise ValueError(
                "the model has no learned scales: attach with learn_scales=True to"
                " prune"
            )
        self._require_attached()
        weak = [
            site
            for site, scale in self.modulator.scales().items()
            if scale < threshold and site in self.sites
        ]
        self._drop_sites(weak)
        return tuple(weak)

    def cast_frozen_weights(self, dtype: torch.dtype = torch.bfloat16) -> AdaptedModel:
        """Cast the frozen matrices to half precision, for use under torch.autocast.

        Trained parameters stay in float32. The cast cannot be undone: `detach` returns
        the rounded network, and `merge` raises an error.

        Args:
            dtype: the dtype of the frozen matrices.

        Returns:
            The model itself.
        """
        for module in self.vit.modules():
            if (
                isinstance(module, nn.Linear | nn.Conv2d)
                and not module.weight.requires_grad
            ):
                module.weight.data = module.weight.data.to(dtype)
        self._has_rounded_weights = True
        return self

    @contextmanager
    def in_full_precision(self) -> Iterator[None]:
        """Run forward passes in float32 until the block ends, although autocast is on.

        Frozen matrices keep the values to which `cast_frozen_weights` rounded them.
        They take 4 bytes per weight until the block ends.

        Yields:
            Nothing.
        """
        half = {
            module: module.weight.data
            for module in self.vit.modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
            and module.weight.dtype in (torch.float16, torch.bfloat16)
        }
        for module, weight in half.items():
            module.weight.data = weight.float()
        try:
            with torch.autocast(next(self.vit.parameters()).device.type, enabled=False):
                yield
        finally:
            for module, weight in half.items():
                module.weight.data = weight

    def detach(self) -> nn.Module:
        """Remove all modules and restore the transformer.

        It is restored bit for bit, unless `cast_frozen_weights` rounded it.

        Returns:
            The transformer.

        Raises:
            ValueError: the modules are detached or merged already.
        """
        self._require_attached()
        self._status = "detached"
        for module in reversed(self.adapter_modules):
            module.remove()
        self._undo_changes()
        return self.vit

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Fold the modules into the weights, in float32.

        Adapters, prompts and shifts of layers without bias cannot be folded. They stay
        on the transformer as modules, and `unmerged` lists them.

        Returns:
            The transformer.

        Raises:
            ValueError: the modules are detached or merged already, or the weights are
                no longer in full precision.

        Example:
            >>> import timm
            >>> from rsft.peft import LoRA, attach
            >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
            >>> adapted = attach(vit, LoRA(rank=2, positions="qv"))
            >>> adapted.merge() is vit, adapted.unmerged
            (True, ())
        """
        self._require_attached()
        if self._has_rounded_weights:
            raise ValueError(
                "the frozen weights are rounded: save, then load into an unrounded"
                " network and merge it"
            )
        self._status = "merged"
        for module in sorted(
            self.adapter_modules, key=lambda module: module.merge_last
        ):
            module.merge()
        placements = (module.placements for module in self.adapter_modules)
        self.unmerged = tuple(chain.from_iterable(placements))
        if not self.unmerged:
            self._undo_changes()
        return self.vit

    def pruned_prefixes(self, state: Mapping[str, Tensor]) -> Names:
        """Return the key prefixes of the sites that are off and have no tensors."""
        gamma = state.get("gamma")
        if (
            not self.modulator
            or gamma is None
            or gamma.shape != self.modulator.gamma.shape
        ):
            return ()
        off = [
            f"{site}."
            for site, values in self.modulator.by_site(gamma).items()
            if values.max() == -math.inf
        ]
        return tuple(
            prefix for prefix in off if not any(key.startswith(prefix) for key in state)
        )

    def _drop_sites(self, sites: Sequence[Site]) -> None:
        for module in self.adapter_modules:
            for site in set(module.sites) & set(sites):
                module.drop_site(site)
        if self.modulator and sites:
            self.modulator.set_scales(dict.fromkeys(map(str, sites), 0.0))

    def _undo_changes(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _require_attached(self) -> None:
        if self._status != "attached":
            raise ValueError(f"the modules are {self._status} already")
