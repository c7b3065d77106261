"""`import rsft` is cheap and gives the public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rsft


def test_import_loads_nothing_heavy() -> None:
    code = "import rsft, sys; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", rsft.__all__)
def test_public_names(name: str) -> None:
    value = getattr(rsft, name)
    assert name in dir(rsft) and (name == "__version__" or (value.__name__ == name and value.__doc__))


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'finetun'"):
        rsft.finetun  # noqa: B018
