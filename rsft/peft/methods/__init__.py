"""Configurations of PEFT methods, one dataclass each. Nothing here imports torch at module level.

The imports below register rsft's own methods in the order in which recipes and tables list them.
"""

# ruff: noqa: F401, I001
from rsft.peft.methods import lora
from rsft.peft.methods import bottleneck
from rsft.peft.methods import composite
from rsft.peft.methods import prompts
from rsft.peft.methods import selective
from rsft.peft.methods import ssf
from rsft.peft.methods import baselines
