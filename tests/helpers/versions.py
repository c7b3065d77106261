"""Tests that need a newer release of a package than pyproject.toml does."""

from importlib.metadata import version

import pytest
from packaging.version import Version


def needs(package: str, lowest: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs at least one release of a package.

    Args:
        package: its name.
        lowest: the release.
    """
    installed = version(package)
    return pytest.mark.skipif(
        Version(installed) < Version(lowest),
        reason=f"{package} {installed} is below {lowest}",
    )
