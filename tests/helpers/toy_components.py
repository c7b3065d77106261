"""Source of one new PEFT method, loss and engine, as a contributor to rsft would write them."""

METHOD = '''\
"""Toy tuning: a bounded shift of the outputs of the MLPs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rsft.peft.methods import registry as keys
from rsft.peft.methods.registry import register


@register
@dataclass(frozen=True)
class ToyTuning:
    """y + bound * tanh(theta) behind the MLPs, theta zero at first."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy tuning"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=keys.BLOCKS)
    bound: float = field(default=1.0, metadata={"description": "largest shift of a feature", "exclusive_minimum": 0})

    def build_modules(self, vit):
        """Return one module for all blocks."""
        from rsft.peft.modules.toy import BoundedShift

        return [BoundedShift(vit, self.blocks, self.bound)]
'''

MODULE = '''\
"""A bounded shift of the outputs of the MLPs."""

from functools import partial

import torch
from torch import nn

from rsft.peft.modules.adapter_module import AdapterModule, mangle_name, trainable_kwargs
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.peft.sites import select_blocks


class BoundedShift(AdapterModule):
    """y + bound * tanh(theta) behind the last layer of the MLPs."""

    merge_last = True

    def __init__(self, vit, blocks, bound):
        super().__init__()
        self._bound, self._layers = bound, {}
        for block in select_blocks(blocks, len(transformer_blocks(vit))):
            name = f"blocks.{block}.mlp.fc2"
            layer = self._layers[name] = vit.get_submodule(name)
            theta = torch.zeros(len(layer.weight), **trainable_kwargs(layer.weight))
            self.register_parameter(mangle_name(name), nn.Parameter(theta))

    def inject(self):
        for name, layer in self._layers.items():
            self.add_undo(name, layer.register_forward_hook(partial(self._add_shift, name)).remove)

    @torch.no_grad()
    def merge(self):
        for name, layer in self._layers.items():
            layer.bias.add_(self._shift(name))
        self.remove()

    def _add_shift(self, name, layer, args, output):
        return output + self._shift(name).to(output.dtype)

    def _shift(self, name):
        return self._bound * self.get_parameter(mangle_name(name)).tanh()
'''

LOSS = '''

@LOSSES.register
@dataclass(frozen=True)
class ToyLoss:
    """Cross entropy with smoothed labels."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "smoothed cross entropy"

    smoothing: float = field(
        default=0.1, metadata={"description": "share of smoothing", "minimum": 0, "exclusive_maximum": 1}
    )

    def make(self, class_counts, drawn_counts):
        from torch.nn import functional as F

        return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
'''

ENGINE = '''\
"""The engine and format toy: the traced graph, run by PyTorch."""

from rsft.inference.engines.base import ENGINES, EXACT, FORMATS
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.engines.graph import GraphModel, as_inference_fn


@FORMATS.register
@ENGINES.register
class ToyEngine(GraphEngine):
    """A traced graph in PyTorch."""

    name, title, extra, packages = "toy", "Toy Runtime", "toy", ("safetensors",)
    file_name, precisions = "toy.pt2", {"fp32": EXACT}

    def write_graph(self, program, folder, metadata):
        import torch

        torch.export.save(program, folder / self.file_name)

    def open_graph(self, path, precision):
        import torch

        return GraphModel(as_inference_fn(torch.export.load(path).module()))
'''
