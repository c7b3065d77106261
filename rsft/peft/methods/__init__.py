"""Configurations of PEFT methods, one dataclass each. No module of this package imports torch at module level."""

# the order in which recipes and tables list the methods
__all__ = ["lora", "bottleneck", "composite", "prompts", "selective", "ssf", "baselines"]  # noqa: RUF022
