"""Trackers, which record the measures of a run in addition to its tables, with one module for each.

Messages list rsft's trackers in the order of `__all__`.
"""

__all__ = ["tensorboard", "mlflow", "wandb"]  # noqa: RUF022
