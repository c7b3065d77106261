"""Pre-train the encoder that ships with rsft on simulated optical images, drawn as they are needed.

    python tools/maintenance/pretrain_simship.py --images 300000

Supervised by the kind of ship (nine ways, "no ship" included), its geometry, and, from each patch token, by what lies
in 4 x 4 cells of the patch: surface, height and grey value; so patch tokens stay spatially informative. A run that is
killed resumes from --work.
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
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from timm.layers.config import set_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rsft.backbones import simship
from rsft.data.simulation.optical import SURFACES, render_optical_scene
from rsft.data.simulation.ships import DECK_OBJECT_KINDS, SHIP_KINDS, Ship, sample_ship
from rsft.utils.atomic_files import atomic_file, sha256, write_text

CELLS = simship.SIZE // 2  # side of the dense targets: 4 x 4 cells a patch
GEOMETRY = 6 + len(DECK_OBJECT_KINDS)
WORK = Path("runs/pretrain_embedded")
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # image, class, geometry, relief, surfaces


class SimulatedShips(Dataset[Batch]):
    """Image `index` of a seed: (3, 64, 64) bytes, class, geometry (17,), relief and surfaces (32, 32)."""

    def __init__(self, seed: int, start: int, stop: int) -> None:
        self.seed, self.start, self.stop = seed, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, self.start + index])
        label = int(rng.integers(len(SHIP_KINDS) + 1))
        ship = sample_ship(SHIP_KINDS[label], rng) if label < len(SHIP_KINDS) else None
        heading, fill = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.95)
        spacing = ship.length / (simship.SIZE * fill) if ship else None
        scene = render_optical_scene(ship, rng, simship.SIZE, spacing, heading)
        geometry = describe(ship, heading, fill) if ship else [math.nan] * GEOMETRY
        return (
            torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1))),
            torch.tensor(label),
            torch.tensor(geometry),
            torch.from_numpy(cv2.resize(scene.relief, (CELLS, CELLS), interpolation=cv2.INTER_AREA)),
            torch.from_numpy(scene.surfaces[::2, ::2].astype(np.int64)),
        )


def describe(ship: Ship, heading: float, fill: float) -> list[float]:
    """Log length in the chip, log slenderness, axis and heading as unit vectors, deck shares of the kinds of parts."""
    angles = [f(n * heading) for n in (2, 1) for f in (math.cos, math.sin)]
    area = dict.fromkeys(DECK_OBJECT_KINDS, 0.0)
    for part in ship.deck_objects:
        area[part.kind] += part.length * part.width / (ship.length * ship.beam)
    return [math.log(fill), math.log(ship.length / ship.beam) - 1.5, *angles, *map(math.sqrt, area.values())]


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """What a one-band sensor or another exposure changes: (B, 3, S, S) bytes -> normalised float32."""
    count = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low

    images = images.float() / 255
    mixture = torch.rand(count, 3, 1, 1, generator=generator)
    grey = (images * mixture / mixture.sum(1, keepdim=True)).sum(1, keepdim=True)
    images = torch.where(draw(0, 1) < 0.5, grey.expand_as(images), images)
    images = torch.where(draw(0, 1) < 0.1, 1 - images, images)
    images = images.clamp(0, 1) ** torch.exp(draw(-0.7, 0.9))
    middle = images.mean((1, 2, 3), keepdim=True)
    images = (images - middle) * torch.exp(draw(-0.7, 0.7)) + middle * torch.exp(draw(-1.2, 0.3))
    noise = torch.randn(images.shape, generator=generator)
    noise = torch.where(draw(0, 1) < 0.5, noise, noise[:, :1])  # one band has one noise
    images = images + noise * draw(-0.1, 0.1).clamp_min(0)
    return (images.clamp(0, 1) - simship.MEAN[0]) / simship.STD[0]


class Pretraining(nn.Module):
    """The encoder with the heads that teach it and are thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: VisionTransformer = simship.build_simship_vit()
        width = self.encoder.embed_dim
        self.classify = nn.ModuleList(nn.Linear(width, len(SHIP_KINDS) + 1) for _ in range(2))
        self.measure = nn.Linear(2 * width, GEOMETRY)
        self.dense = nn.Linear(width, (len(SURFACES) + 2) * 16)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Images (B, 3, 64, 64) -> class logits of both poolings, geometry (B, 17), dense maps (B, C, 32, 32)."""
        tokens = self.encoder.forward_features(images)
        pooled = tokens[:, 0], tokens[:, 1:].mean(1)
        logits = [head(token) for head, token in zip(self.classify, pooled, strict=True)]
        grid = self.dense(tokens[:, 1:]).transpose(1, 2).unflatten(2, (simship.SIZE // simship.PATCH, -1))
        return logits, self.measure(torch.cat(pooled, 1)), F.pixel_shuffle(grid, 4)


def loss_of(outputs: tuple[list[Tensor], Tensor, Tensor], inputs: Tensor, batch: Batch) -> Tensor:
    """Class, geometry (ships only), surface, height and grey value of each cell."""
    _, label, geometry, relief, surfaces = batch
    logits, measured, dense = outputs[0], outputs[1].float(), outputs[2].float()
    loss = sum((F.cross_entropy(z.float(), label, label_smoothing=0.1) for z in logits), torch.zeros(())) / 2
    ships = ~geometry.isnan()
    loss = loss + 2 * F.smooth_l1_loss(measured[ships], geometry[ships], beta=0.3)
    grey = F.avg_pool2d(inputs.mean(1), 2)
    loss = loss + 0.5 * F.smooth_l1_loss(dense[:, 0], grey) + 2 * F.smooth_l1_loss(dense[:, 1], relief.clamp_max(1.5))
    return loss + F.cross_entropy(dense[:, 2:], surfaces)


@torch.no_grad()
def held_out(model: nn.Module, seed: int, count: int) -> dict[str, float]:
    """Accuracy on images of a seed that was not trained on, in colour and in grey."""
    right = {"colour": 0, "grey": 0}
    for images, label, *_ in DataLoader(SimulatedShips(seed, 0, count), batch_size=250):
        for name in right:
            shown = images.float() if name == "colour" else images.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
            inputs = (shown / 255 - simship.MEAN[0]) / simship.STD[0]
            logits = model(inputs)[0]
            right[name] += int(((logits[0] + logits[1]).argmax(1) == label).sum())
    return {name: round(hits / count, 4) for name, hits in right.items()}


def publish(model: Pretraining, facts: dict[str, Any]) -> None:
    """Write the encoder's weights (float16) and its model card where the package looks for them."""
    state = {key: value.half().contiguous() for key, value in model.encoder.state_dict().items()}
    with atomic_file(simship.WEIGHTS) as temporary:
        safetensors.torch.save_file(state, temporary)
    card = {
        "name": simship.NAME,
        "architecture": {"img_size": simship.SIZE, **simship.ARCHITECTURE},
        "mean": simship.MEAN,
        "std": simship.STD,
        "trained_on": "optical images rendered by rsft.data.simulation.optical; no radar image, simulated or real",
        "classes": [*SHIP_KINDS, "no ship"],
        **facts,
        "licence": "MIT; images and weights made by the rsft project",
        "sha256": sha256(simship.WEIGHTS),
    }
    write_text(simship.CARD, json.dumps(card, indent=2) + "\n")


class Training:
    """Everything that a step changes, so that a killed run goes on as if it had not been."""

    def __init__(self, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Pretraining()
        self.average = copy.deepcopy(self.model).eval()  # exponential moving average: what is shipped
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.05, fused=True)
        self.rate, self.seed, self.step, self.seconds = rate, seed, 0, 0.0

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.step, self.seconds = saved["step"], saved["seconds"]
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(saved[name])

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        states = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")}
        with atomic_file(path) as temporary:
            torch.save({**states, "step": self.step, "seconds": self.seconds}, temporary)

    def learn(self, batch: Batch, steps: int) -> float:
        """One of `steps` steps; returns the loss."""
        started = time.monotonic()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        inputs = augment(batch[0], generator)
        warm, turn = min(1.0, (self.step + 1) / 200), 0.5 * (1 + math.cos(math.pi * self.step / steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * turn
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.model(inputs)
        loss = loss_of(outputs, inputs, batch)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        weight = max(0.001, 10 / (10 + self.step))  # forgets the first steps fast
        with torch.no_grad():
            for mean, latest in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(latest, weight)
        self.step += 1
        self.seconds += time.monotonic() - started
        return loss.item()


def main(
    work: Annotated[Path, typer.Option(help="Folder of the checkpoint, from which a killed run goes on.")] = WORK,
    images: Annotated[int, typer.Option(help="Images to train on, each seen once.")] = 300_000,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 64,
    rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of the images, the weights and the augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw images.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the network.")] = 2,
    every: Annotated[int, typer.Option(help="Steps between two writings of checkpoint and weights.")] = 500,
) -> None:
    """Train, report held-out accuracy, and write weights and model card into the package."""
    torch.set_num_threads(threads)
    set_fused_attn(False)  # the fused backward pass is the slower one on a CPU
    training, steps, checkpoint = Training(rate, seed), images // batch, work / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    command = (
        f"python tools/maintenance/pretrain_simship.py --images {images} --batch {batch} --rate {rate} --seed {seed}"
    )
    loader = DataLoader(SimulatedShips(seed, training.step * batch, steps * batch), batch, num_workers=workers)
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loss -", total=steps, completed=training.step)
        for drawn in loader:
            loss = training.learn(drawn, steps)
            progress.update(task, advance=1, description=f"loss {loss:.3f}")
            if training.step % every == 0 or training.step == steps:
                training.save(checkpoint)
                facts = {"images_seen": training.step * batch, "training_seconds": round(training.seconds)}
                accuracy = held_out(training.average, seed + 1, 2000)
                publish(training.average, {"command": command, **facts, "held_out_accuracy": accuracy})
    Console().print_json(simship.CARD.read_text())


if __name__ == "__main__":
    typer.run(main)
