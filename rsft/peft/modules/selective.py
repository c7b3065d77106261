"""Train some of the network's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from rsft.peft.modules.adapter_module import AdapterModule, mangle_name, named_blocks, trainable_kwargs
from rsft.peft.sites import select_blocks


class SelectiveTuning(AdapterModule):
    """Trained copies that replace some of the network's parameters; the frozen originals do not change.

    Args:
        vit: a timm vision transformer.
        method: name of the method, for messages.
        blocks: a selection of blocks; "all" includes parameters outside of the blocks, except those of `head`.
        is_trained: called with a module and the name of one of its parameters; returns whether to train it.

    Raises:
        ValueError: the network has no parameter to train.
    """

    def __init__(
        self,
        vit: nn.Module,
        method: str,
        blocks: str | Sequence[int],
        is_trained: Callable[[nn.Module, str], bool],
    ) -> None:
        super().__init__()
        all_blocks = [f"{path}." for path in named_blocks(vit)]
        selected = tuple(all_blocks[index] for index in select_blocks(blocks, len(all_blocks)))
        self._replaced: dict[str, tuple[nn.Module, str, nn.Parameter]] = {}
        for module_path, module in vit.named_modules():
            is_selected = blocks == "all" or f"{module_path}.".startswith(selected)
            if not is_selected or module_path.split(".")[0] == "head":
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if is_trained(module, name):
                    path = f"{module_path}.{name}" if module_path else name
                    self._replaced[path] = (module, name, parameter)
                    trained = nn.Parameter(parameter.detach().clone().to(**trainable_kwargs(parameter)))
                    self.register_parameter(mangle_name(path), trained)
        if not self._replaced:
            raise ValueError(f"{type(vit).__name__} has no parameter that {method} trains")

    def inject(self) -> None:
        """Replace the frozen parameters by the trained ones."""
        for path, (module, name, frozen) in self._replaced.items():
            setattr(module, name, self.get_parameter(mangle_name(path)))
            self.add_undo(path, partial(_restore_parameter, module, name, frozen))

    @torch.no_grad()
    def merge(self) -> None:
        """Copy the trained values into the network's own parameters."""
        self.remove()
        for path, (_, _, frozen) in self._replaced.items():
            frozen.copy_(self.get_parameter(mangle_name(path)))


def _restore_parameter(module: nn.Module, name: str, frozen: nn.Parameter) -> None:
    """Replace the trained parameter by the frozen one, moved to the device of the trained one."""
    frozen.data = frozen.data.to(getattr(module, name).device)
    setattr(module, name, frozen)
