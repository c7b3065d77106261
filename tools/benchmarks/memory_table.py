"""Estimate GPU memory of training by backbone, PEFT method and precision, in GiB.

    python -m tools.benchmarks.memory_table [--batch 64] [--check]

The numbers are computed, not measured. They add up frozen weights, trained parameters
(weight, gradient and momentum: 12 bytes each), and the activations that the blocks save
for the backward pass, in units of (B, N, D) as listed in `rsft/peft/kernels/block.py`.
The memory that a running block needs is fitted to ViT-B on the CPU. The CUDA context
and the cuDNN workspace (0.5 to 1 GiB) are not included.

--check compares the estimate with the measured peak of resident memory on this CPU
(tools/benchmarks/peft_row.py, batch 16). Its ViT-L row shows how well the estimate
holds for a model that nothing was fitted to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

GIB = 2**30


class ViTShape(NamedTuple):
    """Shape of a vision transformer for images of 224 pixels, with MLPs of hidden width 4 D.

    Attributes:
        name: printed name.
        width: embedding dimension D.
        depth: number of blocks.
        patch: patch size in pixels.
    """

    name: str
    width: int
    depth: int
    patch: int

    @property
    def tokens(self) -> int:
        """Number of tokens N, including the class token."""
        return (224 // self.patch) ** 2 + 1

    @property
    def matrix_parameters(self) -> int:
        """Number of weights of the linear layers and the patch embedding."""
        return self.depth * 12 * self.width**2 + 3 * self.patch**2 * self.width

    @property
    def other_parameters(self) -> int:
        """Number of biases, norm parameters, position embeddings and class token values."""
        return self.depth * 13 * self.width + (self.tokens + 4) * self.width


class TrainingSetup(NamedTuple):
    """A PEFT method and how it is trained.

    Attributes:
        name: printed name.
        method: key of the parameter counts in `trained_parameters`.
        has_kernels: whether blocks run through rsft.peft.kernels, which save fewer
            activations than autograd.
        checkpointing: whether a block saves only its input and is computed again in the
            backward pass.
        shards: number of processes that share the frozen blocks.
    """

    name: str
    method: str = "lora"
    has_kernels: bool = True
    checkpointing: bool = False
    shards: int = 1


SHAPES = (
    ViTShape("ViT-B/16", 768, 12, 16),
    ViTShape("ViT-L/16", 1024, 24, 16),
    ViTShape("ViT-H/14", 1280, 32, 14),
)
SETUPS = (
    TrainingSetup("LoRA, MetaLoRA, r = 8"),
    TrainingSetup("AdaptFormer, Adapter, d = 64", "adapter", has_kernels=False),
    TrainingSetup("VPT-Deep, 10 prompts", "prompts", has_kernels=False),
    TrainingSetup("linear probe", "none"),
    TrainingSetup("LoRA, `train.checkpointing`", checkpointing=True),
    TrainingSetup(
        "LoRA, fsdp over 8, checkpointing",
        has_kernels=False,
        checkpointing=True,
        shards=8,
    ),
    TrainingSetup("full fine-tuning", "full", has_kernels=False),
)
CLASSES = 100

FLOAT32_SAVED = 2
SAVED = 8
"""Tensors (B, N, D) that a block with kernels saves: 2 always in float32 (its input and
the input of the MLP), and 8 in the precision of the matrix products (query, key, value,
attention output, 4 before the MLP's activation)."""

AUTOGRAD_SAVED = 6
"""Tensors (B, N, D) that plain autograd saves in addition: both normalized inputs, and
4 after the MLP's activation."""

WORKSPACE = 12
"""Tensors (B, N, D) in float32 that a running block needs in addition, twice that with
checkpointing. Fitted."""


def trained_parameters(shape: ViTShape, method: str) -> int:
    """Return the number of trained parameters of a method, including the head.

    Args:
        shape: shape of the network.
        method: "lora", "adapter", "prompts", "none" or "full".
    """
    width = shape.width
    depth = shape.depth
    # q, k, v, out: r (D + D); both MLP layers: r (D + 4 D)
    counts = {
        "lora": (depth * 8 * 18 * width),
        "adapter": depth * (2 * 64 * width + 64 + width),
        "prompts": depth * 10 * width,
        "none": 0,
        "full": shape.matrix_parameters + shape.other_parameters,
    }
    return counts[method] + CLASSES * width


def estimate_bytes(
    shape: ViTShape, setup: TrainingSetup, batch: int, use_bf16: bool
) -> float:
    """Return the estimated memory of one training process in bytes.

    Args:
        shape: shape of the network.
        setup: method and how it is trained.
        batch: images per step of the process.
        use_bf16: whether products and frozen matrices use bfloat16 instead of float32.
    """
    product_bytes = 2 if use_bf16 else 4
    on_other_shards = (
        shape.depth
        * 12
        * shape.width**2
        * product_bytes
        * (1 - 1 / setup.shards)
        * (1 - 1 / shape.depth)
    )
    frozen = (
        shape.matrix_parameters * product_bytes
        + shape.other_parameters * 4
        - on_other_shards
    )
    values = batch * shape.tokens * shape.width
    saved_by_block = (
        FLOAT32_SAVED * 4
        + (SAVED + (0 if setup.has_kernels else AUTOGRAD_SAVED)) * product_bytes
    )
    if setup.method == "none":
        saved = 0
    elif setup.checkpointing:
        saved = shape.depth * 4 + saved_by_block
    else:
        saved = shape.depth * saved_by_block
    workspace = WORKSPACE * 4 * (2 if setup.checkpointing else 1)
    return (
        frozen
        + trained_parameters(shape, setup.method) * 12
        + values * (saved + workspace)
    )


def estimates_markdown(batch: int) -> str:
    """Return a table with one row per setup and one column per network and precision.

    Args:
        batch: images per step of one process.
    """
    headings = [
        f"{shape.name}, {precision}"
        for shape in SHAPES
        for precision in ("fp32", "bf16")
    ]
    lines = [
        f"| GiB, batch {batch} | {' | '.join(headings)} |",
        f"|---{'|---:' * len(headings)}|",
    ]
    for setup in SETUPS:
        cells = [
            f"{estimate_bytes(shape, setup, batch, use_bf16) / GIB:.1f}"
            for shape in SHAPES
            for use_bf16 in (False, True)
        ]
        lines.append(f"| {setup.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparison_markdown(batch: int = 16) -> str:
    """Return estimated and measured memory above the float32 weights, in MiB, of rows that `peft_row` can measure.

    Args:
        batch: images per step.
    """
    lines = [
        f"| MiB above the weights, batch {batch} | estimated | measured |",
        "|---|---:|---:|",
    ]
    rows = [
        ("b", "ours", False),
        ("b", "ours-bf16", True),
        ("b", "checkpointed", False),
        ("l", "ours", False),
    ]
    for model, row, use_bf16 in rows:
        shape = SHAPES["bl".index(model)]
        setup = SETUPS[4 if row == "checkpointed" else 0]
        command = [
            sys.executable,
            "-m",
            "tools.benchmarks.peft_row",
            row,
            model,
            "2",
            str(batch),
        ]
        measured = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        weights = (shape.matrix_parameters + shape.other_parameters) * 4
        estimated = (estimate_bytes(shape, setup, batch, use_bf16) - weights) / 2**20
        name = f"{shape.name}, {setup.name}, {'bf16' if use_bf16 else 'fp32'}"
        lines.append(f"| {name} | {estimated:.0f} | {measured['above']:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of estimates, or with --check the comparison with measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=64,
        help="images per step of one process (%(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure some rows here and print both (minutes)",
    )
    options = parser.parse_args(arguments)
    print(comparison_markdown() if options.check else estimates_markdown(options.batch))


if __name__ == "__main__":
    main()
