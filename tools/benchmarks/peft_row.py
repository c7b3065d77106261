"""Time one row of tools/benchmarks/peft.py in this process, and print the result as JSON.

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
from typing import Any, Literal, NamedTuple, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft import AdaptedModel, LoRA, attach

MODELS: dict[str, dict[str, Any]] = {
    "b": {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
    },
    "l": {
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
    },
    "tiny": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 192,
        "depth": 6,
        "num_heads": 3,
        "mlp_ratio": 2.0,
    },
    "small": {
        "img_size": 112,
        "patch_size": 14,
        "embed_dim": 384,
        "depth": 8,
        "num_heads": 6,
    },
}
"""Arguments of timm's vision transformer: ViT-B/16, ViT-L/16, and two networks as for
small chips."""
CLASSES = 15
RANK = 4
WARM_UP = 2
MB = 2**20
Step = Callable[[], object]


class Batch(NamedTuple):
    """Random images (B, 3, S, S) and labels (B,)."""

    images: Tensor
    labels: Tensor


def main(row: str, model: str, steps: int, batch: int) -> None:
    """Build the model, time the steps, and print their seconds and the peak of memory above the bare model in MB.

    Args:
        row: name in `ROWS`.
        model: name in `MODELS`.
        steps: number of timed steps.
        batch: images per step.
    """
    if row.startswith("peft"):
        # before memory is measured, since the import allocates much
        importlib.import_module("peft")
    torch.manual_seed(0)
    side = MODELS[model]["img_size"]
    data = Batch(torch.randn(batch, 3, side, side), torch.randint(CLASSES, (batch,)))
    before_model = resident_mb("VmRSS")
    vit: nn.Module = VisionTransformer(**MODELS[model], num_classes=CLASSES)
    weights = sum(parameter.nbytes for parameter in vit.parameters()) / MB
    step = ROWS[row](vit, data)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    # resets VmHWM, so that it is the peak of the steps
    Path("/proc/self/clear_refs").write_text("5")
    times = [time_step(step) for _ in range(WARM_UP + steps)][WARM_UP:]
    print(
        json.dumps(
            {"times": times, "above": resident_mb("VmHWM") - before_model - weights}
        )
    )


def resident_mb(field: str) -> float:
    """Return VmRSS or VmHWM of this process in MB.

    Args:
        field: "VmRSS" or "VmHWM".
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def time_step(step: Step) -> float:
    """Run one step and return its seconds."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def training_step(
    forward: Callable[[Tensor], Tensor],
    learned: Iterable[Tensor],
    batch: Batch,
    use_bf16: bool = False,
) -> Step:
    """Return a training step: forward, cross-entropy, backward, SGD with momentum.

    Args:
        forward: from images to logits (B, C).
        learned: the trained parameters.
        batch: images and labels.
        use_bf16: run the forward pass in bfloat16.

    Returns:
        A function that runs the step.
    """
    optimizer = torch.optim.SGD(list(learned), lr=1e-3, momentum=0.9)

    def step() -> None:
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=use_bf16):
            logits = forward(batch.images)
        torch.autograd.backward(F.cross_entropy(logits.float(), batch.labels))
        optimizer.step()
        optimizer.zero_grad()

    return step


def hugging_face_step(vit: nn.Module, batch: Batch, use_bf16: bool = False) -> Step:
    """Return a training step of Hugging Face PEFT: LoRA at the four linear layers of every block.

    Args:
        vit: the network.
        batch: images and labels.
        use_bf16: run the forward pass in bfloat16.

    Returns:
        A function that runs the step.
    """
    model = hugging_face_model(vit)
    return training_step(
        model, [p for p in model.parameters() if p.requires_grad], batch, use_bf16
    )


def hugging_face_model(vit: nn.Module) -> nn.Module:
    """Return a network with LoRA of Hugging Face PEFT at four layers of every block."""
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=r".*blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])",
        modules_to_save=["head"],
    )
    return cast(nn.Module, peft.get_peft_model(vit, config))


def attach_lora(
    vit: nn.Module,
    learn_scales: bool = False,
    blocks: str = "all",
    kernels: bool | None = None,
    out_insertion: Literal["parallel", "sequential"] = "parallel",
) -> tuple[AdaptedModel, list[Tensor]]:
    """Attach LoRA at all six positions.

    Args:
        vit: the network.
        learn_scales: with a modulator.
        blocks: blocks with LoRA.
        kernels: see `rsft.peft.attach`.
        out_insertion: what the module at Out reads.

    Returns:
        The model, and its trained parameters: LoRA, modulator and head.
    """
    method = LoRA(
        rank=RANK, positions="qkvo12", blocks=blocks, out_insertion=out_insertion
    )
    adapted = attach(vit, method, learn_scales=learn_scales, kernels=kernels)
    head = vit.get_submodule("head").requires_grad_(True)
    return adapted, [*adapted.theta, *adapted.gamma, *head.parameters()]


def rsft_step(
    vit: nn.Module,
    batch: Batch,
    use_bf16: bool = False,
    learn_scales: bool = False,
    checkpointing: bool = False,
    kernels: bool | None = None,
    out_insertion: Literal["parallel", "sequential"] = "parallel",
) -> Step:
    """Return a training step of rsft.peft.

    Args:
        vit: the network.
        batch: images and labels.
        use_bf16: run the forward pass in bfloat16, with frozen weights in bfloat16.
        learn_scales: with a modulator.
        checkpointing: compute the blocks again in the backward pass.
        kernels: see `rsft.peft.attach`.
        out_insertion: what the module at Out reads.

    Returns:
        A function that runs the step.
    """
    adapted, learned = attach_lora(
        vit, learn_scales, kernels=kernels, out_insertion=out_insertion
    )
    adapted.checkpointing = checkpointing
    return training_step(
        adapted.cast_frozen_weights() if use_bf16 else adapted, learned, batch, use_bf16
    )


def joint_step(vit: nn.Module, batch: Batch, ratio: float = 0.1) -> Step:
    """Return a joint step of MetaPEFT on [inner rows; meta rows].

    Args:
        vit: the network.
        batch: the inner rows.
        ratio: number of meta rows per inner row, at least one row in all.

    Returns:
        A function that runs the step.
    """
    adapted, learned = attach_lora(vit, learn_scales=True)
    inner = len(batch.images)
    meta = max(1, round(ratio * len(batch.images)))
    both = Batch(*(torch.cat([rows, rows[:meta]]) for rows in batch))

    def forward(images: Tensor) -> Tensor:
        with adapted.joint(inner):
            return cast(Tensor, adapted(images))

    return training_step(forward, learned, both)


def last_blocks_step(vit: nn.Module, batch: Batch, count: int = 3) -> Step:
    """Return a training step with LoRA in the last blocks, on features of the other blocks that are computed once.

    Args:
        vit: the network.
        batch: images and labels.
        count: number of blocks with LoRA.

    Returns:
        A function that runs the step.
    """
    adapted, learned = attach_lora(vit, blocks=f"last:{count}")
    prefix = adapted.run_frozen_prefix(batch.images)

    def forward(_: Tensor) -> Tensor:
        return cast(
            Tensor,
            cast(Any, vit).forward_head(
                adapted.run_suffix_with_blocks(prefix, class_token_only=True)[0]
            ),
        )

    return training_step(forward, learned, batch)


def bare_forward(vit: nn.Module, batch: Batch) -> Step:
    """Return a forward pass of the network without PEFT modules.

    Args:
        vit: the network.
        batch: images and labels.

    Returns:
        A function that runs the pass.
    """
    return forward_pass(vit.eval(), batch)


def merged_forward(vit: nn.Module, batch: Batch) -> Step:
    """Return a forward pass of the network with LoRA merged into its weights.

    Args:
        vit: the network.
        batch: images and labels.

    Returns:
        A function that runs the pass.
    """
    return forward_pass(attach_lora(vit)[0].merge(), batch)


def forward_pass(model: nn.Module, batch: Batch) -> Step:
    """Return a forward pass without gradients.

    Args:
        model: the network.
        batch: images and labels.

    Returns:
        A function that runs the pass.
    """
    return torch.inference_mode()(partial(model, batch.images))


def matrix_products(vit: nn.Module, batch: Batch, use_bf16: bool = False) -> Step:
    """Return the matrix products of all blocks: those of the forward pass, and those of the gradients of inputs.

    Args:
        vit: the network.
        batch: images and labels.
        use_bf16: multiply in bfloat16.

    Returns:
        A function that runs the products.
    """
    dtype = torch.bfloat16 if use_bf16 else torch.float32
    rows = (cast(Any, vit).patch_embed.num_patches + 1) * len(batch.images)
    layers = [
        module
        for module in vit.get_submodule("blocks").modules()
        if isinstance(module, nn.Linear)
    ]
    weights = [layer.weight.detach().to(dtype) for layer in layers]
    inputs = {
        width: torch.randn(rows, width).to(dtype)
        for weight in weights
        for width in weight.shape
    }
    outputs = {width: torch.empty_like(value) for width, value in inputs.items()}

    def step() -> None:
        for weight in weights:
            torch.mm(inputs[weight.shape[1]], weight.t(), out=outputs[weight.shape[0]])
        for weight in reversed(weights):
            torch.mm(inputs[weight.shape[0]], weight, out=outputs[weight.shape[1]])

    return step


ROWS: dict[str, Callable[[nn.Module, Batch], Step]] = {
    "products": matrix_products,
    "products-bf16": partial(matrix_products, use_bf16=True),
    "bare": bare_forward,
    "peft": hugging_face_step,
    "peft-bf16": partial(hugging_face_step, use_bf16=True),
    "ours": rsft_step,
    "modulated": partial(rsft_step, learn_scales=True),
    "sequential": partial(rsft_step, out_insertion="sequential"),
    "ours-bf16": partial(rsft_step, use_bf16=True),
    "checkpointed": partial(rsft_step, checkpointing=True),
    "last-3": last_blocks_step,
    "joint": joint_step,
    "merged": merged_forward,
}
"""Function that makes the step of each row."""

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
