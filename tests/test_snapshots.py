"""What a user sees: the help of every command, the keys of recipes and sweeps, and the public names of the packages.

RSFT_UPDATE_SNAPSHOTS=1 pytest tests/test_snapshots.py writes tests/snapshots/ anew; the change is looked at in git.
"""

import difflib
import importlib
import json
import os
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer import rich_utils
from typer.testing import CliRunner

from rsft.cli import app
from rsft.recipe.schema import Recipe
from rsft.sweep.schema import Sweep

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "RSFT_UPDATE_SNAPSHOTS"
WIDTH = 100
MADE_WITH = FOLDER / "help" / "made_with.txt"
RENDERERS = "".join(f"{name} {'.'.join(metadata.version(name).split('.')[:2])}\n" for name in ("typer", "rich"))


def compare(name, text):
    """Hold a text against its snapshot, or write it."""
    path = FOLDER / name
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    kept = path.read_text("utf-8") if path.is_file() else ""
    lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), f"snapshots/{name}", "now", lineterm="")
    if kept != text:
        order = f"{UPDATE}=1 pytest tests/test_snapshots.py writes the snapshots anew, if the change is meant"
        pytest.fail("\n".join([*lines, "", order]), pytrace=False)


def walk(command, *names):
    """Every command below one, with its path."""
    yield names
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from walk(child, *names, name)


COMMANDS = list(walk(typer.main.get_command(app)))


def file_of(names):
    return f"help/{'-'.join(['rsft', *names])}.txt"


@pytest.fixture
def shown(monkeypatch):
    """The help of a command, WIDTH columns wide and plain, whatever the terminal is."""
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", WIDTH)
    monkeypatch.setattr(rich_utils, "FORCE_TERMINAL", None)
    monkeypatch.setattr(rich_utils, "COLOR_SYSTEM", None)
    environment = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": None, "NO_COLOR": "1", "TERM": "dumb", "FORCE_COLOR": None}

    def show(names):
        result = CliRunner().invoke(app, [*names, "--help"], prog_name="rsft", env=environment, terminal_width=WIDTH)
        assert result.exit_code == 0, result.output
        plain = result.output.replace(str(Path.home()), "~").replace(str(Path.cwd()), ".")
        return "\n".join(line.rstrip() for line in plain.splitlines()).strip("\n") + "\n"

    return show


@pytest.mark.parametrize("names", COMMANDS, ids=lambda names: "-".join(names) or "rsft")
def test_help(shown, names):
    if os.environ.get(UPDATE):
        compare("help/made_with.txt", RENDERERS)
    elif MADE_WITH.is_file() and MADE_WITH.read_text("utf-8") != RENDERERS:
        pytest.skip(f"the help of other versions looks otherwise; here: {', '.join(RENDERERS.split(chr(10)))}")
    compare(file_of(names), shown(names))


def test_no_command_is_gone():
    known, kept = {file_of(names) for names in COMMANDS}, {f"help/{path.name}" for path in FOLDER.glob("help/rsft*")}
    if os.environ.get(UPDATE):
        for name in kept - known:
            (FOLDER / name).unlink()
        return
    assert not kept - known, f"commands without a place: {kept - known}; {UPDATE}=1 removes their snapshots"


@pytest.mark.parametrize(("name", "model"), [("recipe", Recipe), ("sweep", Sweep)])
def test_schema(name, model):
    compare(f"{name}.schema.json", json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("name", ["rsft", "rsft.peft"])
def test_public_names(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in module.__all__)
    compare(f"{name}.txt", "\n".join(sorted(module.__all__)) + "\n")
