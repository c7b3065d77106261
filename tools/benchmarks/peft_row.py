"""Times one row of tools/benchmarks/peft.py in a process of its own and prints the result as JSON.

python -m tools.benchmarks.peft_row ROW MODEL STEPS BATCH
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft import AdaptedModel, LoRA, attach

MODELS = {"b": "vit_base_patch16_224", "l": "vit_large_patch16_224"}
CLASSES, RANK, WARM_UP = 15, 4, 2
MB = 2**20
Step = Callable[[], object]


class Batch(NamedTuple):
    """Random images (B, 3, 224, 224) and labels (B,)."""

    images: Tensor
    labels: Tensor


def main(row: str, model: str, steps: int, batch: int) -> None:
    """Build, warm up, time, print."""
    if row.startswith("peft"):
        importlib.import_module("peft")  # before the first look at the memory, as it brings much along
    torch.manual_seed(0)
    data = Batch(torch.randn(batch, 3, 224, 224), torch.randint(CLASSES, (batch,)))
    imported = resident("VmRSS")
    vit: nn.Module = timm.create_model(MODELS[model], num_classes=CLASSES)
    bare = sum(parameter.nbytes for parameter in vit.parameters()) / MB
    step = ROWS[row](vit, data)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is the peak of the steps
    times = [seconds(step) for _ in range(WARM_UP + steps)][WARM_UP:]
    print(json.dumps({"times": times, "above": resident("VmHWM") - imported - bare}))


def resident(field: str) -> float:
    """VmRSS or VmHWM of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def seconds(step: Step) -> float:
    """Of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def training(forward: Callable[[Tensor], Tensor], learned: Iterable[Tensor], batch: Batch, half: bool = False) -> Step:
    """One training step: forward, cross-entropy, backward, SGD with momentum."""
    optimizer = torch.optim.SGD(list(learned), lr=1e-3, momentum=0.9)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = forward(batch.images)
        torch.autograd.backward(F.cross_entropy(logits.float(), batch.labels))
        optimizer.step()
        optimizer.zero_grad()

    return step


def hugging_face(vit: nn.Module, batch: Batch, half: bool = False) -> Step:
    """Hugging Face PEFT's LoRA at the four linear layers of every block."""
    peft = importlib.import_module("peft")
    layers = r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])"
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers, modules_to_save=["head"])
    model = cast(nn.Module, peft.get_peft_model(vit, config))
    return training(model, [p for p in model.parameters() if p.requires_grad], batch, half)


def adapt(vit: nn.Module, modulated: bool = False, blocks: str = "all") -> tuple[AdaptedModel, list[Tensor]]:
    """LoRA at all six positions, and what is learned: its parameters, the head, and the modulator."""
    adapted = attach(vit, LoRA(rank=RANK, positions="qkvo12", blocks=blocks), learn_scales=modulated)
    head = vit.get_submodule("head").requires_grad_(True)
    return adapted, [*adapted.theta, *adapted.gamma, *head.parameters()]


def ours(
    vit: nn.Module, batch: Batch, half: bool = False, modulated: bool = False, checkpointing: bool = False
) -> Step:
    """The same with rsft.peft; in bfloat16 the frozen weights are held in bfloat16 too."""
    adapted, learned = adapt(vit, modulated)
    adapted.checkpointing = checkpointing
    return training(adapted.cast_frozen_weights() if half else adapted, learned, batch, half)


def joint(vit: nn.Module, batch: Batch, ratio: float = 0.1) -> Step:
    """MetaPEFT's joint step, [inner ; meta], with a whole batch of inner rows."""
    adapted, learned = adapt(vit, modulated=True)
    inner, meta = len(batch.images), max(1, round(ratio * len(batch.images)))
    both = Batch(*(torch.cat([part, part[:meta]]) for part in batch))

    def forward(images: Tensor) -> Tensor:
        with adapted.joint(inner):
            return cast(Tensor, adapted(images))

    return training(forward, learned, both)


def last_blocks(vit: nn.Module, batch: Batch, count: int = 3) -> Step:
    """The last blocks adapted, on features below them that were computed once."""
    adapted, learned = adapt(vit, blocks=f"last:{count}")
    below = adapted.run_frozen_prefix(batch.images)

    def forward(_: Tensor) -> Tensor:
        return cast(Tensor, cast(Any, vit).forward_head(adapted.run_adapted_suffix(below, class_token_only=True)))

    return training(forward, learned, batch)


def bare(vit: nn.Module, batch: Batch) -> Step:
    """The forward pass of the model as it comes."""
    return inference(vit.eval(), batch)


def merged(vit: nn.Module, batch: Batch) -> Step:
    """The forward pass of the merged model."""
    return inference(adapt(vit)[0].merge(), batch)


def inference(model: nn.Module, batch: Batch) -> Step:
    """One forward pass without gradients."""
    return torch.inference_mode()(partial(model, batch.images))


def products(vit: nn.Module, batch: Batch, half: bool = False) -> Step:
    """The matrix products of all blocks and nothing else, those of the forward pass and those into the inputs."""
    dtype = torch.bfloat16 if half else torch.float32
    rows = 197 * len(batch.images)
    layers = [module for module in vit.get_submodule("blocks").modules() if isinstance(module, nn.Linear)]
    weights = [layer.weight.detach().to(dtype) for layer in layers]
    values = {width: torch.randn(rows, width).to(dtype) for weight in weights for width in weight.shape}
    into = {width: torch.empty_like(value) for width, value in values.items()}

    def step() -> None:
        for weight in weights:
            torch.mm(values[weight.shape[1]], weight.t(), out=into[weight.shape[0]])
        for weight in reversed(weights):
            torch.mm(values[weight.shape[0]], weight, out=into[weight.shape[1]])

    return step


ROWS: dict[str, Callable[[nn.Module, Batch], Step]] = {
    "products": products,
    "products-bf16": partial(products, half=True),
    "bare": bare,
    "peft": hugging_face,
    "peft-bf16": partial(hugging_face, half=True),
    "ours": ours,
    "modulated": partial(ours, modulated=True),
    "ours-bf16": partial(ours, half=True),
    "checkpointed": partial(ours, checkpointing=True),
    "last-3": last_blocks,
    "joint": joint,
    "merged": merged,
}
"""Every row's way to make its step."""

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
