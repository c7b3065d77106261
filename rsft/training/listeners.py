"""Listeners to a training run. This module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsft.peft import Site
from rsft.types import JsonObject

if TYPE_CHECKING:
    from rsft.training.runs.reader import Epoch
    from rsft.training.runs.writer import Run


@dataclass(frozen=True)
class StepReport:
    """A finished step, and the speed of its epoch so far.

    Attributes:
        epoch: number of the epoch, from 0.
        step: number of the step in its epoch, from 1.
        steps: steps of an epoch.
        done: finished steps of the run.
        total: steps of the run.
        loss: the loss of the inner loop.
        images_per_s: images per second of the inner loop.
        data_s: mean seconds per step outside of both loops, mostly spent waiting for
            data.
        inner_s: mean seconds per step in the inner loop, or in a pass of both.
        outer_s: mean seconds per step in the outer loop.
        memory_mb: peak resident memory of this process.
        gpu_mb: peak memory allocated on its GPU; NaN without one.
        left_s: estimated seconds to the end of the run, including validations.
    """

    epoch: int
    step: int
    steps: int
    done: int
    total: int
    loss: float
    images_per_s: float
    data_s: float
    inner_s: float
    outer_s: float
    memory_mb: float
    gpu_mb: float
    left_s: float


class RunListener:
    """Base class of listeners to a training run.

    Subclasses override the methods that they need.
    """

    def on_progress(self, done: int, total: int, item: str) -> None:
        """Handle progress of other work, which `item` names, such as reading chips."""

    def on_start(self, run: Run, metadata: JsonObject) -> None:
        """Handle the start of training; `metadata` is the content of run.json."""

    def on_step(self, step: StepReport) -> None:
        """Handle a finished step."""

    def on_epoch_end(self, row: Epoch, scales: dict[Site, float]) -> None:
        """Handle a finished epoch.

        Args:
            row: columns of metrics.csv.
            scales: learned scales by site; empty without a modulator.
        """

    def on_end(self, failed: bool) -> None:
        """Handle the end of training, which `failed` by an error or a signal or not."""
