"""Fixture of the tests of loading."""

import pytest

from tests.helpers.tiny_store import make


@pytest.fixture
def store(tmp_path):
    """Return a store in a folder whose name has a space and other letters."""
    return make(tmp_path / "数据 1")
