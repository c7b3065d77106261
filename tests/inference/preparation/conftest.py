"""The simulated traffic of the tests of AIS."""

from tests.plugins.ais.conftest import traffic

__all__ = ["traffic"]
