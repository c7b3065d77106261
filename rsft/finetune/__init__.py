"""From a recipe to a bundle."""

from rsft.finetune.job import Listener, finetune
from rsft.finetune.runs import Run

__all__ = ["Listener", "Run", "finetune"]
