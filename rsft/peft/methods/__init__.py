"""Configurations of PEFT methods, one dataclass each.

No module of this package imports torch at module level.
"""
