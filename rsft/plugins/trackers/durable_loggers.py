"""Loggers of Lightning for runs that are resumed, fail or outlive a full disk."""

from collections.abc import Mapping

from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.pytorch.loggers import WandbLogger


class EventFileLogger(TensorBoardLogger):
    """TensorBoard's event files: a killed run loses nothing."""

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None
    ) -> None:
        """Write the numbers of a step to the disk.

        A new file hides this step and later ones in older files.
        """
        if self._experiment is None:
            self._kwargs["purge_step"] = step
        writer = self.experiment
        self._experiment = None
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()
        self._experiment = writer  # an error ends the thread of a writer


class FinishedWandbLogger(WandbLogger):
    """Weights & Biases: the next run of the process begins a new record."""

    def finalize(self, status: str) -> None:
        """End the run with exit code 0 or, if it failed, 1."""
        super().finalize(status)
        self.experiment.finish(exit_code=int(status != "success"))
