"""docs/data.md keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

from rsft.cli import prepare
from rsft.data.chips.store import SCHEMA

DATA = (Path(__file__).parents[1] / "docs/data.md").read_text("utf-8")


def test_every_column_of_the_manifest_is_explained() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", DATA, re.MULTILINE)
    assert set(SCHEMA.names) <= set(re.findall(r"`(\w+)`", " ".join(cells)))


def test_every_build_is_shown() -> None:
    for command in prepare.app.registered_commands:
        assert f"$ rsft prepare {command.name} " in DATA
