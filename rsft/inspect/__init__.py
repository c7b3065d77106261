"""A bundle looked at: what it is, whether it is whole, how it differs from another."""

from rsft.inspect.description import describe
from rsft.inspect.differences import compare
from rsft.inspect.soundness import verify

__all__ = ["compare", "describe", "verify"]
