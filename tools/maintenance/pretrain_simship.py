"""Pre-train the encoder that ships with rsft on simulated optical images, which are rendered on the fly.

    python -m tools.maintenance.pretrain_simship --images 300000

Targets are the kind of ship (nine classes, including "no ship"), its geometry, and (for
each patch token) surface, height and gray value in 4 x 4 cells of the patch, so that
patch tokens keep spatial information. A killed run resumes from --work.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import safetensors.torch
import torch
import typer
from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from timm.layers.config import set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rsft.backbones import simship
from rsft.plugins.demo.ships import Ship, sample_ship
from rsft.utils.atomic_files import atomic_file, sha256, write_text
from tools.errors import explained_errors
from tools.simulation.optical import SURFACES, render_optical_scene
from tools.simulation.ships import DECK_OBJECT_KINDS, SHIP_KINDS

CELLS = simship.SIZE // 2  # side of the dense targets: 4 x 4 cells per patch
GEOMETRY = 6 + len(DECK_OBJECT_KINDS)
WORK = Path("runs/pretrain_embedded")
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Images, classes, geometry, relief, surfaces."""


class SimulatedShips(Dataset[Batch]):
    """Simulated images of a seed: bytes (3, 64, 64), class, geometry (17,), relief and surfaces (32, 32)."""

    def __init__(self, seed: int, start: int, stop: int) -> None:
        self.seed = seed
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, self.start + index])
        label = int(rng.integers(len(SHIP_KINDS) + 1))
        if label < len(SHIP_KINDS):
            ship = sample_ship(SHIP_KINDS[label], rng)
        else:
            ship = None
        heading = rng.uniform(0, 2 * np.pi)
        fill = rng.uniform(0.15, 0.95)
        spacing = ship.length / (simship.SIZE * fill) if ship else None
        scene = render_optical_scene(ship, rng, simship.SIZE, spacing, heading)
        if ship:
            geometry = geometry_targets(ship, heading, fill)
        else:
            geometry = [math.nan] * GEOMETRY
        return (
            torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))),
            torch.tensor(label),
            torch.tensor(geometry),
            torch.from_numpy(
                cv2.resize(scene.relief, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
            ),
            torch.from_numpy(scene.surfaces[::2, ::2].astype(np.int64)),
        )


def geometry_targets(ship: Ship, heading: float, fill: float) -> list[float]:
    """Return log length in the chip, log slenderness, axis and heading as unit vectors, and deck shares by kind."""
    angles = [f(n * heading) for n in (2, 1) for f in (math.cos, math.sin)]
    area = dict.fromkeys(DECK_OBJECT_KINDS, 0.0)
    for box in ship.deck_objects:
        area[box.kind] += box.length * box.width / (ship.length * ship.beam)
    return [
        math.log(fill),
        math.log(ship.length / ship.beam) - 1.5,
        *angles,
        *map(math.sqrt, area.values()),
    ]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Simulate one-band sensors and exposures: bytes (B, 3, S, S) -> normalized float32 (B, 3, S, S)."""
    count = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low

    images = images.float() / 255
    mixture = torch.rand(count, 3, 1, 1, generator=generator)
    gray = (images * mixture / mixture.sum(1, keepdim=True)).sum(1, keepdim=True)
    images = torch.where(draw(0, 1) < 0.5, gray.expand_as(images), images)
    images = torch.where(draw(0, 1) < 0.1, 1 - images, images)
    images = images.clamp(0, 1) ** torch.exp(draw(-0.7, 0.9))
    middle = images.mean((1, 2, 3), keepdim=True)
    images = (images - middle) * torch.exp(draw(-0.7, 0.7)) + middle * torch.exp(
        draw(-1.2, 0.3)
    )
    noise = torch.randn(images.shape, generator=generator)
    # bands that are copies share their noise
    noise = torch.where(draw(0, 1) < 0.5, noise, noise[:, :1])
    images = images + noise * draw(-0.1, 0.1).clamp_min(0)
    return (images.clamp(0, 1) - simship.MEAN[0]) / simship.STD[0]


class Pretraining(nn.Module):
    """The encoder with the heads of the pre-training, which are discarded afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: VisionTransformer = simship.build_simship_vit()
        width = self.encoder.embed_dim
        self.classify = nn.ModuleList(
            nn.Linear(width, len(SHIP_KINDS) + 1) for _ in range(2)
        )
        self.measure = nn.Linear(2 * width, GEOMETRY)
        self.dense = nn.Linear(width, (len(SURFACES) + 2) * 16)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Map images (B, 3, 64, 64) to logits of both poolings, geometry (B, 17) and dense maps (B, C, 32, 32)."""
        tokens = self.encoder.forward_features(images)
        pooled = tokens[:, 0], tokens[:, 1:].mean(1)
        logits = [
            head(token) for head, token in zip(self.classify, pooled, strict=True)
        ]
        grid = (
            self.dense(tokens[:, 1:])
            .transpose(1, 2)
            .unflatten(2, (simship.SIZE // simship.PATCH, -1))
        )
        return logits, self.measure(torch.cat(pooled, 1)), F.pixel_shuffle(grid, 4)


def compute_loss(
    outputs: tuple[list[Tensor], Tensor, Tensor], inputs: Tensor, batch: Batch
) -> Tensor:
    """Return the loss of class, geometry (ships only), and surface, height and gray value of each cell."""
    _, label, geometry, relief, surfaces = batch
    logits = outputs[0]
    measured = outputs[1].float()
    dense = outputs[2].float()
    loss = (
        sum(
            (F.cross_entropy(z.float(), label, label_smoothing=0.1) for z in logits),
            torch.zeros(()),
        )
        / 2
    )
    ships = ~geometry.isnan()
    loss = loss + 2 * F.smooth_l1_loss(measured[ships], geometry[ships], beta=0.3)
    gray = F.avg_pool2d(inputs.mean(1), 2)
    loss = (
        loss
        + 0.5 * F.smooth_l1_loss(dense[:, 0], gray)
        + 2 * F.smooth_l1_loss(dense[:, 1], relief.clamp_max(1.5))
    )
    return loss + F.cross_entropy(dense[:, 2:], surfaces)


@torch.no_grad()
def evaluate(model: nn.Module, seed: int, count: int) -> dict[str, float]:
    """Return the accuracy on images of another seed, in color and in gray."""
    hits = {"colour": 0, "grey": 0}
    for images, label, *_ in DataLoader(SimulatedShips(seed, 0, count), batch_size=250):
        for name in hits:
            if name == "colour":
                shown = images.float()
            else:
                shown = images.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
            inputs = (shown / 255 - simship.MEAN[0]) / simship.STD[0]
            logits = model(inputs)[0]
            hits[name] += int(((logits[0] + logits[1]).argmax(1) == label).sum())
    return {name: round(correct / count, 4) for name, correct in hits.items()}


def publish(model: Pretraining, metadata: dict[str, Any]) -> None:
    """Write the weights (float16) and the model card of the encoder into the package."""
    state = {
        key: value.half().contiguous()
        for key, value in model.encoder.state_dict().items()
    }
    with atomic_file(simship.WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
    card = {
        "name": simship.NAME,
        "architecture": {"img_size": simship.SIZE, **simship.ARCHITECTURE},
        "mean": simship.MEAN,
        "std": simship.STD,
        "trained_on": (
            "optical images rendered by tools.simulation.optical; no radar image,"
            " simulated or real"
        ),
        "classes": [*SHIP_KINDS, "no ship"],
        **metadata,
        "licence": "MIT; images and weights made by the rsft project",
        "sha256": sha256(simship.WEIGHTS),
    }
    write_text(simship.CARD, json.dumps(card, indent=2) + "\n")


class Training:
    """State of the training; a killed run resumes from it exactly."""

    def __init__(self, lr: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Pretraining()
        # exponential moving average, which is published
        self.average = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=lr, weight_decay=0.05, fused=True
        )
        self.lr = lr
        self.seed = seed
        self.step = 0
        self.seconds = 0.0

    def load(self, path: Path) -> None:
        """Resume from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.step = saved["step"]
        self.seconds = saved["seconds"]
        for name, stateful in self._stateful().items():
            stateful.load_state_dict(saved[name])

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        states = {
            name: stateful.state_dict() for name, stateful in self._stateful().items()
        }
        with atomic_file(path) as temporary:
            torch.save(
                {**states, "step": self.step, "seconds": self.seconds}, temporary
            )

    def _stateful(self) -> dict[str, Any]:
        """Return the parts with a state by their keys in the checkpoint."""
        return {
            "model": self.model,
            "average": self.average,
            "optimiser": self.optimizer,
        }

    def train_step(self, batch: Batch, steps: int) -> float:
        """Run one of `steps` steps and return its loss."""
        start = time.monotonic()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        inputs = augment(batch[0], generator)
        warmup = min(1.0, (self.step + 1) / 200)
        decay = 0.5 * (1 + math.cos(math.pi * self.step / steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * warmup * decay
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.model(inputs)
        loss = compute_loss(outputs, inputs, batch)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        # the average forgets the first steps fast
        weight = max(0.001, 10 / (10 + self.step))
        with torch.no_grad():
            for mean, latest in zip(
                self.average.parameters(), self.model.parameters(), strict=True
            ):
                mean.lerp_(latest, weight)
        self.step += 1
        self.seconds += time.monotonic() - start
        return loss.item()


def main(
    work: Annotated[
        Path,
        typer.Option(help="Folder of the checkpoint; a killed run resumes from it."),
    ] = WORK,
    images: Annotated[
        int, typer.Option(help="Number of training images; each is used once.")
    ] = 300_000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-3,
    seed: Annotated[
        int, typer.Option(help="Seed of images, weights and augmentation.")
    ] = 0,
    workers: Annotated[int, typer.Option(help="Processes that render images.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the network.")] = 2,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 500,
) -> None:
    """Train, report held-out accuracy, and write weights and model card into the package."""
    torch.set_num_threads(threads)
    set_fused_attn(False)  # on CPUs the fused backward pass is slower
    training = Training(rate, seed)
    steps = images // batch
    checkpoint = work / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    command = (
        f"python -m tools.maintenance.pretrain_simship --images {images} --batch"
        f" {batch} --rate {rate} --seed {seed}"
    )
    loader = DataLoader(
        SimulatedShips(seed, training.step * batch, steps * batch),
        batch,
        num_workers=workers,
    )
    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loss -", total=steps, completed=training.step)
        for inputs in loader:
            loss = training.train_step(inputs, steps)
            progress.update(task, advance=1, description=f"loss {loss:.3f}")
            if training.step % every == 0 or training.step == steps:
                training.save(checkpoint)
                progress_fields = {
                    "images_seen": training.step * batch,
                    "training_seconds": round(training.seconds),
                }
                accuracy = evaluate(training.average, seed + 1, 2000)
                publish(
                    training.average,
                    {
                        "command": command,
                        **progress_fields,
                        "held_out_accuracy": accuracy,
                    },
                )
    Console().print_json(simship.CARD.read_text())


if __name__ == "__main__":
    with explained_errors():
        typer.run(main)
