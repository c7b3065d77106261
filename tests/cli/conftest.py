"""The simulated traffic of the tests of AIS."""

from tests.inference.ais.conftest import traffic

__all__ = ["traffic"]
