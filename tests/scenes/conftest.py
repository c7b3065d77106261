"""Vector layers are read in this process."""

from __future__ import annotations

import pytest

from tests.helpers.vector_layers import read_layer_here


@pytest.fixture(autouse=True)
def _layers_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read vector layers without the process that limits damage."""
    monkeypatch.setattr("rsft.data.imagery.vectors.run_limited", read_layer_here)
