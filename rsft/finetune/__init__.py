"""From a recipe to a bundle."""

from rsft.finetune.job import finetune
from rsft.finetune.recorder import Listener
from rsft.finetune.runs import Run

__all__ = ["Listener", "Run", "finetune"]
