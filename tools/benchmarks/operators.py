"""Count the operators of a training step and its waits for the device; print a table in Markdown.

python -m tools.benchmarks.operators [--blocks 12]

A GPU launches about one kernel per operator, so the numbers say how a step of a small
batch compares between programs, on a machine without a GPU. Views and allocations do
not count. "Network" is the forward and the backward pass, by plain autograd, as on a
GPU; the optimizer is the fused one, as on a GPU. A wait is a value that the program
reads between the batch and the optimizer step. The comparison with Hugging Face PEFT
needs the package peft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

import torch
import typer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from rsft.models.classifier import Classifier
from rsft.peft import AdaptFormer, LoRA, attach
from rsft.peft.methods.registry import Method
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.fit import take_steps
from rsft.training.meta.bilevel import BiLevelLoop
from rsft.training.objective import Objective
from tools.benchmarks.peft_row import Batch, Step, hugging_face_step
from tools.errors import explained_errors

CLASSES = 15
FREE = {
    "_reshape_alias",
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "reshape",
    "resize_",
}
"""Operators beside views that start no kernel."""
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal"}
"""Operators whose result the program waits for."""


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that run within the block, by name.

    Attributes:
        network: operators before the first optimizer step of the block.
        optimizer: operators from the first optimizer step on.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.network: Counter[str] = Counter()
        self.optimizer: Counter[str] = Counter()
        self._current = self.network

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = operator._schema.name.partition("::")[2]
        if not operator.is_view and name not in FREE:
            self._current[name] += 1
        return operator(*args, **(kwargs or {}))

    def begin_optimizer(self, *_: object) -> None:
        """Count what follows as part of the optimizer step."""
        self._current = self.optimizer

    @property
    def waits(self) -> int:
        """Number of values that the program read before the optimizer step."""
        return sum(self.network[name] for name in WAITS)


def count_operators(step: Step) -> OperatorCounter:
    """Return the operators of the second call of a step."""
    step()
    counter = OperatorCounter()
    with counter:
        hook = register_optimizer_step_pre_hook(counter.begin_optimizer)
        try:
            step()
        finally:
            hook.remove()
    return counter


class Sizes(NamedTuple):
    """The network: blocks, and width of its tokens."""

    blocks: int = 12
    width: int = 48

    def build(self, classes: int) -> nn.Module:
        """Return a vision transformer with a head for `classes`; 0 gives no head."""
        torch.manual_seed(0)
        return VisionTransformer(
            img_size=272,
            patch_size=16,
            embed_dim=self.width,
            depth=self.blocks,
            num_heads=4,
            num_classes=classes,
        )


def make_batch(seed: int = 0) -> Batch:
    """Return 8 random images with labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 272, 272, generator=generator)
    return Batch(images, torch.randint(CLASSES, (2,), generator=generator))


def rsft_step(
    sizes: Sizes,
    bf16: bool,
    method: Method,
    learn_scales: bool = False,
    schedule: str | None = None,
) -> Step:
    """Return a step of the training loops, as on a GPU: plain autograd, fused optimizer.

    Args:
        sizes: the network.
        bf16: train in bfloat16, with frozen weights in bfloat16.
        method: the PEFT method.
        learn_scales: with a modulator.
        schedule: of the outer loop, which then takes a step as well; None takes an
            inner step alone.
    """
    adapted = attach(sizes.build(0), method, learn_scales=learn_scales, kernels=False)
    classifier = Classifier(adapted, nn.Linear(sizes.width, CLASSES), "token")
    if bf16:
        adapted.cast_frozen_weights()
    train = TrainSection(epochs=1)
    meta = MetaSection(schedule=schedule or "alternating") if learn_scales else None
    optimizer = torch.optim.SGD(classifier.theta, lr=0.1, momentum=0.9, fused=True)
    outer_optimizer = None
    if meta is not None:
        outer_optimizer = torch.optim.Adam(adapted.gamma, lr=0.1, fused=True)
    loops = BiLevelLoop(classifier, optimizer, outer_optimizer, meta, train)
    objective = Objective(
        F.cross_entropy,
        F.cross_entropy,
        outer_batch=make_batch(1) if schedule else None,
    )
    batch = make_batch()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            take_steps(loops, batch, objective)

    return step


def peft_step(sizes: Sizes, bf16: bool) -> Step:
    """Return a training step of LoRA in Hugging Face PEFT."""
    return hugging_face_step(sizes.build(CLASSES), make_batch(), bf16)


_LORA = LoRA(rank=4, positions="qkvo12")
ROWS: dict[str, Callable[[Sizes, bool], Step]] = {
    "LoRA, Hugging Face PEFT": peft_step,
    "LoRA": partial(rsft_step, method=_LORA),
    "MetaLoRA, inner step": partial(rsft_step, method=_LORA, learn_scales=True),
    "MetaLoRA, joint step": partial(
        rsft_step, method=_LORA, learn_scales=True, schedule="joint"
    ),
    "MetaLoRA, inner and outer step": partial(
        rsft_step, method=_LORA, learn_scales=True, schedule="alternating"
    ),
    "AdaptFormer": partial(rsft_step, method=AdaptFormer(dim=4)),
}
"""Name -> function that makes a step."""


def main(
    blocks: Annotated[int, typer.Option(help="Blocks of the network.")] = 12,
) -> None:
    """Count all rows and print the table."""
    torch.set_num_threads(1)
    lines = ["| step | network, fp32 | network, bf16 | optimizer | waits |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, build in ROWS.items():
        if build is peft_step and find_spec("peft") is None:
            lines.append(
                f"| {name} | not run: the package peft is not installed | | | |"
            )
            continue
        full, half = (
            count_operators(build(Sizes(blocks), bf16)) for bf16 in (False, True)
        )
        cells = [
            name,
            *(f"{counter.network.total():,}" for counter in (full, half)),
            "" if build is peft_step else f"{full.optimizer.total():,}",
            str(full.waits),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
