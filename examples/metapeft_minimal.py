"""MetaPEFT in one file, on `rsft.peft` and PyTorch alone: a ViT, LoRA, the learned scales, and the two loops.

    python examples/metapeft_minimal.py

1. Pre-train a small vision transformer on clean waves, equally many of every class: the
   "optical" source.
2. Freeze it, attach LoRA, and train on waves of other classes under speckle, with a
   long tail: the "radar" target.
3. Do the same with one learned scale per site. An outer step after every K inner steps
   trains the scales.

It prints the accuracy on common (head), medium and rare (tail) classes for the frozen
network with a trained head, for LoRA, and for LoRA with learned scales. It shows how
the method works, not what it gives, because the images are made up.
docs/results/metapeft.md has measurements on real data.
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft import AdaptedModel, LinearProbe, LoRA, attach

SIDE = 32
WIDTH = 64
DEPTH = 4
HEADS = 4  # image in pixels; network
TRAIN_COUNTS = (240, 160, 110, 60, 40, 30, 20, 14, 10)  # images per class: a long tail
GROUPS = {"head": slice(0, 3), "medium": slice(3, 6), "tail": slice(6, 9)}  # classes
LOOKS = 4  # of the speckle: fewer looks are more noise
K = 2  # inner steps per outer step


def make_images(
    labels: Tensor, classes: int, speckle: bool, generator: torch.Generator
) -> Tensor:
    """Return a patch of waves (B, 1, 32, 32) for each label (B,), which is the direction of the waves."""
    draw = torch.rand(5, len(labels), 1, 1, generator=generator)
    angle = (labels[:, None, None] + 0.5 * (draw[0] - 0.5)) * math.pi / classes
    rows, columns = torch.meshgrid(
        torch.arange(SIDE), torch.arange(SIDE), indexing="ij"
    )
    phase = (rows * angle.cos() + columns * angle.sin()) * (
        0.7 + 0.5 * draw[1]
    ) + 2 * math.pi * draw[2]
    y, x = SIDE * (0.3 + 0.4 * draw[3:])
    images = 1 + phase.sin() * torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 100)
    if speckle:  # one look is exponential
        images = images * -torch.rand(
            (LOOKS, *images.shape), generator=generator
        ).clamp(min=1e-6).log().mean(0)
    return (images - 1).unsqueeze(1)


class Attention(nn.Module):
    """Self-attention.

    `rsft.peft` finds the sites by the names that timm gives to layers: qkv, proj, fc1,
    fc2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, 17, 64)."""
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(
            F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )


class Block(nn.Module):
    """A transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        layers = {
            "fc1": nn.Linear(WIDTH, 4 * WIDTH),
            "act": nn.GELU(),
            "fc2": nn.Linear(4 * WIDTH, WIDTH),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, 17, 64)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer. Its features are those of the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(1, WIDTH, kernel_size=8, stride=8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(
            0.02 * torch.randn(1, 1 + (SIDE // 8) ** 2, WIDTH)
        )
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the tokens (B, 17, 64) of images (B, 1, 32, 32)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.expand(len(images), -1, -1), patches), dim=1)
        return self.norm(self.blocks(tokens + self.pos_embed))

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, 64) of images (B, 1, 32, 32)."""
        return self.forward_features(images)[:, 0]


def pretrain(steps: int, classes: int = 12) -> dict[str, Tensor]:
    """Train the network on clean waves of 12 directions, and return its weights."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = ViT()
    head = nn.Linear(WIDTH, classes)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=steps
    )
    for _ in range(steps):
        labels = torch.randint(classes, (64,), generator=generator)
        loss = F.cross_entropy(
            head(network(make_images(labels, classes, False, generator))), labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.state_dict()


def draw_batches(
    images: Tensor, labels: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw batches of 64 images without end."""
    while True:
        chosen = torch.randint(len(labels), (64,), generator=generator)
        yield images[chosen], labels[chosen]


def finetune(
    adapted: AdaptedModel, images: Tensor, labels: Tensor, steps: int, seed: int
) -> nn.Module:
    """Train the LoRA modules, a new head and, if there are any, the scales; return the merged classifier."""
    torch.manual_seed(seed)
    head = nn.Linear(WIDTH, len(TRAIN_COUNTS))
    counts = torch.tensor(TRAIN_COUNTS).float()
    log_prior = (counts / counts.sum()).log()
    batches = draw_batches(images, labels, torch.Generator().manual_seed(seed))

    def loss(batch: Tensor, targets: Tensor) -> Tensor:
        """Return the logit-adjusted cross entropy, which corrects the long tail."""
        return F.cross_entropy(
            head(adapted.forward_features(batch)[:, 0]) + log_prior, targets
        )

    inner = torch.optim.SGD([*adapted.theta, *head.parameters()], lr=0.03, momentum=0.9)
    outer = torch.optim.Adam(adapted.gamma, lr=0.05) if adapted.gamma else None
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(inner, steps)
    for step in range(1, steps + 1):
        inner.zero_grad()  # inner loop: theta (LoRA and head), at fixed scales
        loss(*next(batches)).backward()
        inner.step()
        schedule.step()
        if outer and step % K == 0:
            # outer loop: gamma (the scales), at fixed theta, on another batch
            outer.zero_grad()
            loss(*next(batches)).backward()
            outer.step()
    return nn.Sequential(adapted.merge(), head)


@torch.inference_mode()
def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy by group, in percent; a group has equally many test images of every class."""
    right = (classifier(images).argmax(1) == labels).float()
    by_class = torch.stack(
        [right[labels == index].mean() for index in range(len(TRAIN_COUNTS))]
    )
    return {
        group: 100 * float(by_class[classes].mean())
        for group, classes in GROUPS.items()
    }


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Print the accuracy by method and group, and return it."""
    parser = argparse.ArgumentParser(
        description="Compare LoRA with fixed and with learned scales on made-up images."
    )
    parser.add_argument("--pretraining-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    weights = pretrain(options.pretraining_steps)
    generator = torch.Generator().manual_seed(1 + options.seed)
    classes = len(TRAIN_COUNTS)
    splits = {}
    for split, counts in {"train": TRAIN_COUNTS, "test": (100,) * classes}.items():
        labels = torch.arange(classes).repeat_interleave(torch.tensor(counts))
        splits[split] = make_images(labels, classes, True, generator), labels

    lora = LoRA(rank=4, positions="qkvo12", blocks="all")
    methods = {
        "frozen network": (LinearProbe(), False),
        "LoRA": (lora, False),
        "LoRA, learned scales": (lora, True),
    }
    print(f"{'accuracy in %':22}" + "".join(f"{group:>8}" for group in GROUPS))
    results = {}
    for name, (method, learn_scales) in methods.items():
        network = ViT()
        network.load_state_dict(weights)
        adapted = attach(network, method, learn_scales=learn_scales)
        classifier = finetune(adapted, *splits["train"], options.steps, options.seed)
        results[name] = accuracy(classifier, *splits["test"])
        print(
            f"{name:22}" + "".join(f"{value:8.1f}" for value in results[name].values())
        )
    return results


if __name__ == "__main__":
    main()
