"""GPU memory of training by backbone, method and precision, in GiB.

python -m tools.benchmarks.memory_table [--batch 64] [--check]

Counted, not measured: frozen weights, what is trained (weight, gradient, momentum: 12 bytes each), and what the blocks
keep for the backward pass: the widths of (B, N, D) that `rsft/peft/kernels/block.py` names. What a block needs while it
runs is fitted to ViT-B on the CPU. CUDA's context and cuDNN's workspace, 0.5 to 1 GiB, come on top.

--check compares the count with the peak of resident memory on this CPU (tools/benchmarks/peft_row.py, batch 16); ViT-L,
to which nothing was fitted, among it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

GIB = 2**30


class ViT(NamedTuple):
    """A vision transformer with MLPs of four widths.

    Attributes:
        width: D.
        depth: L.
        patch: side in pixels, of images of 224.
    """

    name: str
    width: int
    depth: int
    patch: int

    @property
    def tokens(self) -> int:
        """N, the class token included."""
        return (224 // self.patch) ** 2 + 1

    @property
    def matrices(self) -> int:
        """Weights of linear layers and of the embedding."""
        return self.depth * 12 * self.width**2 + 3 * self.patch**2 * self.width

    @property
    def others(self) -> int:
        """Biases, norms, positions and the class token."""
        return self.depth * 13 * self.width + (self.tokens + 4) * self.width


class Way(NamedTuple):
    """A method and how it is run.

    Attributes:
        trained: parameters that it trains beside the head, by network.
        lean: whether blocks run through the lean path; plain autograd otherwise.
        checkpointing: whether a block keeps its input alone.
        shards: processes that share the frozen blocks.
    """

    name: str
    method: str = "lora"
    lean: bool = True
    checkpointing: bool = False
    shards: int = 1


VITS = (ViT("ViT-B/16", 768, 12, 16), ViT("ViT-L/16", 1024, 24, 16), ViT("ViT-H/14", 1280, 32, 14))
WAYS = (
    Way("LoRA, MetaLoRA, r = 8"),
    Way("AdaptFormer, Adapter, d = 64", "adapter", lean=False),
    Way("VPT-Deep, 10 prompts", "prompts", lean=False),
    Way("linear probe", "none"),
    Way("LoRA, `train.checkpointing`", checkpointing=True),
    Way("LoRA, fsdp over 8, checkpointing", lean=False, checkpointing=True, shards=8),
    Way("full fine-tuning", "full", lean=False),
)
CLASSES = 100

FRESH, HELD = 2, 8
"""Widths that a lean block keeps in float32 whatever the precision (its input and that of the MLP), and in that of the
products (query, key, value, attention's output, four before the activation)."""

PLAIN = 6
"""Widths that plain autograd keeps beyond those: both normalised inputs, and four behind the activation."""

RUNNING = 12
"""Widths in float32 in use while a block runs, beyond what it keeps, and again where it is computed twice; fitted."""


def trained(vit: ViT, method: str) -> int:
    """Parameters of a method, the head included."""
    width, depth = vit.width, vit.depth
    parts = {
        "lora": depth * 8 * 18 * width,  # q, k, v, out: r (D + D); both MLP layers: r (D + 4 D)
        "adapter": depth * (2 * 64 * width + 64 + width),
        "prompts": depth * 10 * width,
        "none": 0,
        "full": vit.matrices + vit.others,
    }
    return parts[method] + CLASSES * width


def needed(vit: ViT, way: Way, batch: int, half: bool) -> float:
    """Bytes of a process with `batch` images."""
    product = 2 if half else 4
    sharded = vit.depth * 12 * vit.width**2 * product * (1 - 1 / way.shards) * (1 - 1 / vit.depth)
    frozen = vit.matrices * product + vit.others * 4 - sharded
    width = batch * vit.tokens * vit.width
    kept = FRESH * 4 + (HELD + (0 if way.lean else PLAIN)) * product
    if way.method == "none":
        blocks = 0
    elif way.checkpointing:
        blocks = vit.depth * 4 + kept
    else:
        blocks = vit.depth * kept
    running = RUNNING * 4 * (2 if way.checkpointing else 1)
    return frozen + trained(vit, way.method) * 12 + width * (blocks + running)


def table(batch: int) -> str:
    """Markdown: ways down, networks and precisions across."""
    heads = [f"{vit.name}, {precision}" for vit in VITS for precision in ("32", "bf16")]
    lines = [f"| GiB, batch {batch} | {' | '.join(heads)} |", f"|---{'|---:' * len(heads)}|"]
    for way in WAYS:
        cells = [f"{needed(vit, way, batch, half) / GIB:.1f}" for vit in VITS for half in (False, True)]
        lines.append(f"| {way.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def check(batch: int = 16) -> str:
    """Counted and measured memory above the weights in float32, in MiB, of the rows that both know."""
    lines = [f"| MiB above the weights, batch {batch} | counted | measured |", "|---|---:|---:|"]
    rows = [("b", "ours", False), ("b", "ours-bf16", True), ("b", "checkpointed", False), ("l", "ours", False)]
    for model, row, half in rows:
        vit, way = VITS["bl".index(model)], WAYS[4 if row == "checkpointed" else 0]
        command = [sys.executable, "-m", "tools.benchmarks.peft_row", row, model, "2", str(batch)]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        counted = (needed(vit, way, batch, half) - (vit.matrices + vit.others) * 4) / 2**20
        lines.append(f"| {vit.name}, {way.name}, {'bf16' if half else '32'} | {counted:.0f} | {told['above']:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="chips of a process")
    parser.add_argument("--check", action="store_true", help="hold the count against measurements here")
    wishes = parser.parse_args(arguments)
    print(check() if wishes.check else table(wishes.batch))


if __name__ == "__main__":
    main()
