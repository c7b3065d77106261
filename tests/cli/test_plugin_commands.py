"""A plug-in adds commands by registration; it is imported when its command runs."""

import sys

import pytest

from rsft.cli.plugin_commands import find_commands
from rsft.utils import registry

TOYS = """
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console

app = typer.Typer(name="toys", help="Play.")


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_toys() -> None:
    "List toys."
    console.print("ball")


def wind(bundle: str, turns: int = 3) -> None:
    \"""Wind up a bundle.

    Args:
        bundle: Folder of a bundle.
        turns: Number of turns.
    \"""
    console.print(f"{bundle} {turns}")
"""


@pytest.fixture
def toys(tmp_path_factory, monkeypatch):
    """Folder of plug-ins with the commands `toys list`, `wind` and `bundle wind`."""
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "toys").mkdir()
    (plugins / "toy_commands.py").write_text(TOYS)
    file = plugins / "toys/plugin.toml"
    file.write_text(
        'title = "Toys"\nabout = "Play."\n\n[entry-points."rsft.commands"]\n'
        'toys = "toy_commands:app"\nwind = "toy_commands:wind"\n'
        '"bundle wind" = "toy_commands:wind"\n'
    )
    monkeypatch.setattr(registry, "PLUGINS", plugins)
    monkeypatch.syspath_prepend(plugins)
    yield file
    sys.modules.pop("toy_commands", None)


def test_commands_and_groups_appear(rsft, toys):
    assert list(find_commands()) == ["toys", "wind"]
    assert list(find_commands("bundle")) == ["wind"]
    assert "toy_commands" not in sys.modules
    assert rsft("toys", "list") == (0, "ball\n")
    assert rsft("wind", "runs/a", "--turns", "4") == (0, "runs/a 4\n")
    assert rsft("bundle", "wind", "runs/b") == (0, "runs/b 3\n")
    code, printed = rsft("bundle", "wind", "--help")
    assert code == 0 and "Number of turns." in printed and "Args:" not in printed


def test_other_commands_do_not_import_the_plug_in(rsft, toys):
    assert rsft("bundle", "show", "none")[0] == 2
    assert rsft("recipes", "ls")[0] == 0
    assert "toy_commands" not in sys.modules


@pytest.mark.parametrize("group", [(), ("bundle",)])
def test_help_lists_them(rsft, toys, group):
    code, printed = rsft(*group, "--help")
    assert code == 0 and "Wind up a bundle." in printed and "show" in printed


def test_a_plug_in_that_cannot_be_imported_leaves_the_others(rsft, toys):
    toys.write_text(toys.read_text().replace("toy_commands:app", "no_such:app"))
    with pytest.warns(UserWarning, match="toys cannot be imported"):
        code, printed = rsft("--help")
    assert code == 0 and "Wind up a bundle." in printed and "predict" in printed
