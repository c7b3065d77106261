"""docs/data.md documents every column and every command, and the commands use the defaults of their functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rsft.cli import prepare
from rsft.data.chips.store import SCHEMA

DATA = (Path(__file__).parents[1] / "docs/data.md").read_text("utf-8")


def test_every_manifest_column_is_documented() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", DATA, re.MULTILINE)
    assert set(SCHEMA.names) <= set(re.findall(r"`(\w+)`", " ".join(cells)))


def test_every_prepare_command_has_an_example() -> None:
    for command in prepare.app.registered_commands:
        assert f"$ rsft prepare {command.name} " in DATA


@pytest.mark.parametrize("command", prepare.app.registered_commands, ids=lambda command: command.name)
def test_prepare_command_has_the_defaults_of_its_function(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = []

    def record(function: Callable[..., Any], *_: object, **options: Any) -> SimpleNamespace:
        calls.append((function, options))
        return SimpleNamespace(root=Path("root"))

    monkeypatch.setattr(prepare, "run_prepare", record)
    monkeypatch.setattr(prepare, "show_paths", lambda paths: None)
    parameters = inspect.signature(command.callback).parameters.values()
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    command.callback(**dict.fromkeys(required, Path("path")))
    [(function, options)] = calls
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    assert options and options == {name: defaults[name] for name in options}
