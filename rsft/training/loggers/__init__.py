"""Trackers, which record the numbers of a run beside its own tables: one module for each.

The imports below register rsft's own trackers in the order in which messages list them.
"""

# ruff: noqa: F401, I001
from rsft.training.loggers import tensorboard
from rsft.training.loggers import mlflow
from rsft.training.loggers import wandb
