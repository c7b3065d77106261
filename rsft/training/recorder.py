"""Record a run while it trains: time, tables, listeners and early stopping."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from rsft.peft import Site
from rsft.training.listeners import RunListener, StepReport
from rsft.training.parts.base import StateDict
from rsft.training.runs.reader import Epoch
from rsft.training.runs.writer import Run
from rsft.utils.operating_system import peak_memory_bytes


class StepTimer:
    """Timer of the phases of training.

    On a GPU it uses CUDA events, so that no measurement waits for the GPU.

    Args:
        cuda: whether to use CUDA events.

    Example:
        >>> timer = StepTimer()
        >>> with timer("inner"):
        ...     pass
        >>> timer.seconds("inner") < 1
        True
    """

    def __init__(self, cuda: bool = False) -> None:
        self.cuda = cuda
        self._pending: deque[tuple[str, Any, Any]] = deque()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure the block as time of a phase.

        Args:
            phase: name of the phase.

        Yields:
            Nothing.
        """
        start = self._now()
        yield
        self._pending.append((phase, start, self._now()))

    def reset(self) -> None:
        """Start from 0."""
        self._pending.clear()
        self._seconds.clear()

    def seconds(self, phase: str) -> float:
        """Return the seconds of a phase since the last reset.

        Blocks that the GPU has not finished do not count.
        """
        while self._pending and (not self.cuda or self._pending[0][2].query()):
            name, start, end = self._pending.popleft()
            if self.cuda:
                self._seconds[name] += start.elapsed_time(end) / 1000
            else:
                self._seconds[name] += end - start
        return self._seconds[phase]

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


class Recorder:
    """Writes the tables of a run after each epoch, and calls listeners.

    Args:
        run: the run that receives the tables.
        timer: measures inner and outer steps.
        epochs: number of epochs of the run.
        listeners: the listeners to call.
    """

    def __init__(
        self,
        run: Run,
        timer: StepTimer,
        epochs: int,
        listeners: Sequence[RunListener] = (),
    ) -> None:
        self.run = run
        self.timer = timer
        self.epochs = epochs
        self.listeners = listeners
        self._epoch = self._steps = 0  # number of the epoch, and its steps
        self._epoch_images = self._epoch_steps = 0  # of this session
        self._session_steps = 0  # since the start or resume
        self._epoch_began = self._session_began = time.monotonic()
        self._epoch_pace: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._session_began = time.monotonic()
        for listener in self.listeners:
            listener.on_start(self.run, self.run.metadata)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for listener in self.listeners:
            listener.on_end(failed=error is not None)

    def start_epoch(self, epoch: int, steps: int) -> None:
        """Start the clock of an epoch with a number of steps."""
        self._epoch = epoch
        self._steps = steps
        self._epoch_began = time.monotonic()
        self._epoch_images = 0
        self._epoch_steps = 0
        self.timer.reset()

    def add_step(self, index: int, loss: Tensor, images: int) -> None:
        """Report a step to the listeners.

        Args:
            index: number of the step in its epoch from 0.
            loss: the loss of the inner loop, a scalar.
            images: images of the step, over all processes.
        """
        self._epoch_images += images
        self._epoch_steps += 1
        self._session_steps += 1
        if self.listeners:
            pace = self._pace()
            done = self._epoch * self._steps + index + 1
            total = self.epochs * self._steps
            step = StepReport(
                epoch=self._epoch,
                step=index + 1,
                steps=self._steps,
                done=done,
                total=total,
                loss=float(loss),
                images_per_s=pace["images_per_s"],
                **{
                    phase: pace[phase] / self._epoch_steps
                    for phase in ("data_s", "inner_s", "outer_s")
                },
                **peak_memory(),
                left_s=(time.monotonic() - self._session_began)
                / self._session_steps
                * (total - done),
            )
            for listener in self.listeners:
                listener.on_step(step)

    def stop_clock(self) -> None:
        """Stop the clock of the epoch, before the validation."""
        self._epoch_pace = self._pace()

    def end_epoch(self, measures: Epoch, factors: dict[Site, Tensor]) -> None:
        """Write the row of the epoch and the learned scales.

        Args:
            measures: columns of metrics.csv, without those on time and memory.
            factors: learned factors of each site, whose mean is its scale; empty
                without a modulator.
        """
        row = measures | self._epoch_pace | peak_memory()
        self.run.add_epoch(row, factors)
        scales = {site: float(values.mean()) for site, values in factors.items()}
        for listener in self.listeners:
            listener.on_epoch_end(row, scales)

    def _pace(self) -> dict[str, float]:
        """Return images per second, and the seconds of the epoch by phase."""
        seconds = time.monotonic() - self._epoch_began
        inner = self.timer.seconds("inner")
        outer = self.timer.seconds("outer")
        return {
            "seconds": seconds,
            "images_per_s": self._epoch_images / seconds if seconds else math.nan,
            "data_s": max(0.0, seconds - inner - outer),
            "inner_s": inner,
            "outer_s": outer,
        }


def peak_memory() -> dict[str, float]:
    """Return the peak memory of this process in MB.

    Returns:
        "memory_mb", resident; "gpu_mb", allocated on its GPU, NaN without one.
    """
    if torch.cuda.is_available():
        allocated = torch.cuda.max_memory_allocated() / 1e6
    else:
        allocated = 0.0
    return {"memory_mb": peak_memory_bytes() / 1e6, "gpu_mb": allocated or math.nan}


class EarlyStopping:
    """Stops training after `patience` validations without a better macro accuracy.

    Args:
        patience: number of validations; None never stops.
        min_delta: smallest improvement that counts, as accuracy 0-1.
    """

    def __init__(self, patience: int | None, min_delta: float) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self.best_score = -math.inf
        self.wait_count = 0

    @property
    def is_due(self) -> bool:
        """Whether training must stop."""
        return self.patience is not None and self.wait_count >= self.patience

    def update(self, score: float) -> None:
        """Compare the macro accuracy of a validation (0-1) with the best one so far."""
        self.wait_count += 1
        if score - self.min_delta > self.best_score:
            self.best_score = score
            self.wait_count = 0

    def state_dict(self) -> StateDict:
        """Return the state for a checkpoint."""
        return {"best": self.best_score, "waited": self.wait_count}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state of a checkpoint."""
        self.best_score = state["best"]
        self.wait_count = state["waited"]
