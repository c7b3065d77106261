"""Static quantisation by the runtimes' own libraries, calibrated on chips."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from rsft.inference.export.runtimes import describe_onnx, quietly, save_openvino
from rsft.inference.export.traceable import IMAGES
from rsft.types import Progress
from rsft.utils.optional_dependencies import need

CALIBRATION = 256
"""Chips that ranges are taken from; means and extremes of activations hardly move with more."""

SHARES = (0, 1 / 6, 1 / 3)
"""Of the blocks, the first ones, that stay in floating point: the next where accuracy is not kept. What they lose, all
later ones take in."""

CALIBRATING = "calibrating"
"""What a progress bar is told."""

_PASS = 8
_BLOCK = re.compile(r"\bblocks[./](\d+)\b")
_LINEAR, _ATTENTION = torch.ops.aten.linear.default, torch.ops.aten.scaled_dot_product_attention.default


def depth_of(program: ExportedProgram) -> int:
    """How many blocks there are."""
    return 1 + max((_block(node) for node in _nodes(program)), default=-1)


def steps(depth: int) -> list[int]:
    """How many of the first blocks to leave in floating point, few first."""
    return sorted({ceil(share * depth) for share in SHARES})


def spared(program: ExportedProgram, first: int) -> frozenset[str]:
    """Names of the nodes that stay in floating point: attention's own products, the head, and the `first` blocks.

    Neither runtime is faster for attention in int8, and a head has a thousandth of the arithmetic. With the embedding
    of patches, which both quantisers below leave out as well, they made nine tenths of int8's error (root mean square
    of a trained ViT-S/14's logits on RSSCN7: 0.59 with them, 0.08 without).
    """
    return frozenset(
        node.name
        for node in _nodes(program)
        if node.target is _ATTENTION or 0 <= _block(node) < first or _of_features(node)
    )


def quantise_onnx(
    path: Path,
    chips: NDArray[np.float32],
    about: dict[str, Any],
    spare: Collection[str] = (),
    progress: Progress | None = None,
) -> None:
    """Replace a float32 ONNX file by one with int8 matrix products (QDQ, a scale for every row of a weight).

    Args:
        chips: (N, P, S, S), normalised.
        spare: nodes of the traced graph whose products stay in float32.
    """
    quantization = need("onnxruntime.quantization")
    shapes = need("onnxruntime.quantization.shape_inference")

    nodes = need("onnx").load(path, load_external_data=False).graph.node
    ready = path.with_name("ready.onnx")
    with quietly():
        shapes.quant_pre_process(path, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            path,
            _Reader(chips, progress),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=[node.name for node in nodes if _traced_from(node) in spare],
        )
    ready.unlink()
    describe_onnx(path, about)


def quantise_openvino(
    model: Any,
    path: Path,
    chips: NDArray[np.float32],
    about: dict[str, Any],
    spare: Collection[str] = (),
    progress: Progress | None = None,
) -> None:
    """Write a model of OpenVINO in int8 as NNCF does it for transformers, with smoothed activations.

    Args:
        chips: (N, P, S, S), normalised.
        spare: nodes of the traced graph that stay as they are.
    """
    nncf = need("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own set_log_level sets handlers of others too
    names = [op.get_friendly_name() for op in model.get_ops() if op.get_friendly_name().partition("/")[0] in spare]
    seen, total = count(1), 2 * len(chips)  # once to smooth, once for the ranges

    def shown(chip: NDArray[np.float32]) -> NDArray[np.float32]:
        if progress is not None:
            progress(min(next(seen), total), total, CALIBRATING)
        return chip[None]

    with quietly():
        small = nncf.quantize(
            model,
            nncf.Dataset(chips, shown),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(chips),
            ignored_scope=nncf.IgnoredScope(names=names, types=["Convolution"], validate=False),
        )
    save_openvino(small, path, about)


class _Reader:
    """Chips as ONNX Runtime asks for them: its CalibrationDataReader is whatever has `get_next`."""

    def __init__(self, chips: NDArray[np.float32], progress: Progress | None) -> None:
        self.chips, self.progress, self.done = chips, progress, 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next pass; None after the last."""
        part = self.chips[self.done : self.done + _PASS]
        self.done += len(part)
        if self.progress is not None:
            self.progress(self.done, len(self.chips), CALIBRATING)
        return {IMAGES: part} if len(part) else None


def _nodes(program: ExportedProgram) -> Iterator[Node]:
    """Of the graph and of those in it: a head that leaves autocast is one of its own."""
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            yield from module.graph.nodes


def _block(node: Node) -> int:
    """Of the module that a node comes from; -1 where it is in no block."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    found = _BLOCK.findall(" ".join(paths))
    return int(found[-1]) if found else -1


def _of_features(node: Node) -> bool:
    """Whether it is a head: what multiplies features (N, D), not tokens (N, T, D)."""
    return node.target is _LINEAR and cast(Node, node.args[0]).meta["val"].ndim == 2


def _traced_from(node: Any) -> str:
    """The name in the traced graph of a node of ONNX."""
    told = next((str(each.value) for each in node.metadata_props if each.key == "pkg.torch.onnx.fx_node"), "")
    return told.partition(" ")[0].removeprefix("%")
