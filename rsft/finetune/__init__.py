"""From a recipe to a bundle."""

from rsft.finetune.ensemble import finetune
from rsft.finetune.recorder import Listener, Step
from rsft.finetune.runs import Run

__all__ = ["Listener", "Run", "Step", "finetune"]
