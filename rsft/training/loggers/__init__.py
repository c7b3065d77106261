"""Trackers, which record the numbers of a run beside its own tables: one module for each.

Messages list rsft's own trackers in the order of `__all__`.
"""

__all__ = ["tensorboard", "mlflow", "wandb"]  # noqa: RUF022
