import pytest

from rsft.plugins.sweeps.sweep_file import read_sweep


@pytest.fixture
def write_sweep(tmp_path, recipe_file):
    """Write a sweep file whose word RECIPE stands for a recipe; return its path."""

    def write(text):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        return path

    return write


@pytest.fixture
def read_text(write_sweep):
    """Read the text of a sweep file; return the sweep and its document."""
    return lambda text: read_sweep(write_sweep(text))
