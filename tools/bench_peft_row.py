"""Times one configuration of tools/bench_peft.py in a process of its own and prints the result as JSON.

python -m tools.bench_peft_row ROW MODEL STEPS BATCH
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from timm import create_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsft.peft.lean import Term, lean_block

NAMES = {"b": "vit_base_patch16_224", "l": "vit_large_patch16_224"}
CLASSES, RANK, WARM_UP, MB = 15, 4, 2, 2**20
LAYERS = {"qkv": (("q", 0), ("k", 1), ("v", 2)), "proj": (("out", 0),), "fc1": (("mlp1", 0),), "fc2": (("mlp2", 0),)}
Step = Callable[[], object]


def main(row: str, model: str, steps: int, batch: int) -> None:
    """Build, warm up, time, print."""
    build = ROWS[row]
    if row.startswith("peft"):
        import peft  # noqa: F401  before the first look at the memory, as it brings much along
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(CLASSES, (batch,))
    before = resident("VmRSS")
    vit = cast(nn.Module, create_model(NAMES[model], num_classes=CLASSES)).requires_grad_(False)
    bare = sum(p.numel() * p.element_size() for p in vit.parameters()) / MB
    step = build(vit, images, labels)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is the peak of the steps
    times = [seconds(step) for _ in range(WARM_UP + steps)][WARM_UP:]
    print(json.dumps({"times": times, "above": resident("VmHWM") - before - bare, "bare": bare}))


def resident(field: str) -> float:
    """A line of this process' status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def seconds(step: Step) -> float:
    """Of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def train(
    forward: Callable[[Tensor], Tensor], learned: Sequence[Tensor], images: Tensor, labels: Tensor, half: bool = False
) -> Step:
    """One training step: forward, cross-entropy, backward, SGD."""
    optimizer = torch.optim.SGD(learned, lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(forward(images).float(), labels)
        loss.backward()
        optimizer.step()

    return step


class Ours(nn.Module):
    """A ViT with LoRA at all six positions of its last blocks."""

    def __init__(
        self, vit: nn.Module, modulated: bool = False, half: bool = False, first: int = 0, checkpointed: bool = False
    ) -> None:
        super().__init__()
        self.vit: Any = vit
        self.first, self.checkpointed = first, checkpointed
        vit.get_submodule("head").requires_grad_(True)
        self.pairs = nn.ParameterDict()
        self.gamma = nn.Parameter(torch.full((len(self.vit.blocks), 6), 0.5413), requires_grad=modulated)
        self.terms: list[Any] = []
        for index, block in enumerate(self.vit.blocks):
            block.requires_grad_(False)
            for name in LAYERS:
                layer = block.get_submodule(("attn." if name in ("qkv", "proj") else "mlp.") + name)
                if half:
                    layer.to(torch.bfloat16)
                out, width = layer.weight.shape
                for position, _ in LAYERS[name]:
                    rows = out // len(LAYERS[name])
                    self.pairs[f"{index}{position}a"] = nn.Parameter(torch.randn(RANK, width) * 0.02)
                    self.pairs[f"{index}{position}b"] = nn.Parameter(torch.randn(rows, RANK) * 0.02)

    def at(self, index: int, m: Any) -> dict[str, list[Term]]:
        found: dict[str, list[Term]] = {}
        number = 0
        for name, positions in LAYERS.items():
            for position, third in positions:
                a, b = self.pairs[f"{index}{position}a"], self.pairs[f"{index}{position}b"]
                found.setdefault(name, []).append(Term(slice(third * len(b), (third + 1) * len(b)), a, b, m[number]))
                number += 1
        return found

    def below(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.vit.patch_embed(x)
            x = self.vit._pos_embed(x)
            for block in self.vit.blocks[: self.first]:
                x = lean_block(block, x, {})
        return x

    def above(self, x: Tensor, split: int | None = None) -> Tensor:
        scales = F.softplus(self.gamma).unbind()
        last = len(self.vit.blocks) - 1
        for index in range(self.first, last + 1):
            m = scales[index].unbind() if self.gamma.requires_grad else [1.0] * 6
            run = partial(
                lean_block, self.vit.blocks[index], terms=self.at(index, m), split=split, class_token_only=index == last
            )
            x = (
                cast(Tensor, checkpoint(run, x, use_reentrant=False))
                if self.checkpointed and torch.is_grad_enabled()
                else run(x)
            )
        return cast(Tensor, self.vit.head(self.vit.norm(x)[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.above(self.below(x))

    @property
    def learned(self) -> list[Tensor]:
        return [p for p in self.parameters() if p.requires_grad]


def peft_row(vit: nn.Module, images: Tensor, labels: Tensor, half: bool = False) -> Step:
    """Hugging Face PEFT's LoRA on the same layers."""
    from peft import LoraConfig, get_peft_model

    layers = r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])"
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers, modules_to_save=["head"])
    model = get_peft_model(cast(Any, vit), config)
    return train(model, [p for p in model.parameters() if p.requires_grad], images, labels, half)


def ours_row(vit: nn.Module, images: Tensor, labels: Tensor, *, weights_half: bool = False, **kwargs: Any) -> Step:
    ours = Ours(vit, half=weights_half, **kwargs)
    return train(ours, ours.learned, images, labels, weights_half)


def joint_row(vit: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """[inner ; meta] at ratio 0.1."""
    ours = Ours(vit, modulated=True)
    meta = max(1, round(0.1 * len(images)))
    inputs, targets = torch.cat([images, images[:meta]]), torch.cat([labels, labels[:meta]])
    return train(lambda x: ours.above(ours.below(x), split=len(images)), ours.learned, inputs, targets)


def last_row(vit: nn.Module, images: Tensor, labels: Tensor) -> Step:
    ours = Ours(vit, first=len(cast(Any, vit).blocks) - 3)
    features = ours.below(images)
    return train(lambda x: ours.above(features), ours.learned, images, labels)


def bare_row(vit: nn.Module, images: Tensor, labels: Tensor) -> Step:
    vit.eval()
    return torch.inference_mode()(lambda: vit(images))


def merged_row(vit: nn.Module, images: Tensor, labels: Tensor) -> Step:
    ours = Ours(vit.eval())

    def step():
        x = ours.below(images)
        last = len(ours.vit.blocks) - 1
        for i, block in enumerate(ours.vit.blocks):
            x = lean_block(block, x, {}, class_token_only=i == last)
        return ours.vit.head(ours.vit.norm(x)[:, 0])

    return torch.inference_mode()(step)


def ceiling_row(vit: nn.Module, images: Tensor, labels: Tensor, half: bool = False) -> Step:
    """The matrix products of the blocks alone, forward and into the input: 2 x the forward."""
    dtype = torch.bfloat16 if half else torch.float32
    tokens = len(images) * 197
    weights = [m.weight.detach().to(dtype) for m in cast(Any, vit).blocks.modules() if isinstance(m, nn.Linear)]
    x = {width: torch.randn(tokens, width).to(dtype) for width in {n for w in weights for n in w.shape}}
    y = {width: torch.empty_like(value) for width, value in x.items()}

    def step() -> None:
        for weight in weights:
            torch.mm(x[weight.shape[1]], weight.t(), out=y[weight.shape[0]])
        for weight in reversed(weights):
            torch.mm(x[weight.shape[0]], weight, out=y[weight.shape[1]])

    return step


ROWS: dict[str, Callable[[nn.Module, Tensor, Tensor], Step]] = {
    "ceiling": ceiling_row,
    "ceiling-bf16": partial(ceiling_row, half=True),
    "bare": bare_row,
    "peft": peft_row,
    "peft-bf16": partial(peft_row, half=True),
    "ours": ours_row,
    "modulated": partial(ours_row, modulated=True),
    "ours-bf16": partial(ours_row, weights_half=True),
    "checkpointed": partial(ours_row, checkpointed=True),
    "last-3": last_row,
    "joint": joint_row,
    "merged": merged_row,
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
