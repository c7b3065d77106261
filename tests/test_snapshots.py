"""Compare the help of every command, the schemas of recipes and sweeps, and public
names with tests/snapshots/.

RSFT_UPDATE_SNAPSHOTS=1 pytest tests/test_snapshots.py updates the snapshots; review the
change in git.
"""

import difflib
import importlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from typer import rich_utils
from typer.testing import CliRunner

from rsft.cli import build_app
from rsft.recipe.schema import Recipe

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "RSFT_UPDATE_SNAPSHOTS"
WIDTH = 100
VERSIONS_FILE = FOLDER / "help" / "made_with.txt"
VERSIONS = "".join(
    f"{name} {'.'.join(metadata.version(name).split('.')[:2])}\n"
    for name in ("typer", "rich")
)


def compare_with_snapshot(name, text):
    """Compare a text with its snapshot, or update the snapshot."""
    path = FOLDER / name
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    snapshot = path.read_text("utf-8") if path.is_file() else ""
    lines = difflib.unified_diff(
        snapshot.splitlines(),
        text.splitlines(),
        f"snapshots/{name}",
        "now",
        lineterm="",
    )
    if snapshot != text:
        hint = (
            f"if the change is intended, update the snapshots: {UPDATE}=1 pytest"
            " tests/test_snapshots.py"
        )
        pytest.fail("\n".join([*lines, "", hint]), pytrace=False)


def walk_commands(command, *names):
    """Iterate over the names of a command and of all its subcommands."""
    yield names
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from walk_commands(child, *names, name)


APP = build_app()
COMMAND: Any = typer.main.get_command(APP)
COMMANDS = list(walk_commands(COMMAND))


def snapshot_name(names):
    """Return the path of the snapshot of a command's help."""
    return f"help/{'-'.join(['rsft', *names])}.txt"


@pytest.fixture
def render_help(monkeypatch):
    """Return the help of a command as plain text of WIDTH columns on every terminal."""
    monkeypatch.setattr("typer.testing._get_command", lambda app: COMMAND)  # built once
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", WIDTH)
    monkeypatch.setattr(rich_utils, "FORCE_TERMINAL", None)
    monkeypatch.setattr(rich_utils, "COLOR_SYSTEM", None)
    environment = {
        "COLUMNS": str(WIDTH),
        "TERMINAL_WIDTH": None,
        "NO_COLOR": "1",
        "TERM": "dumb",
        "FORCE_COLOR": None,
    }

    def render(names):
        result = CliRunner().invoke(
            APP,
            [*names, "--help"],
            prog_name="rsft",
            env=environment,
            terminal_width=WIDTH,
        )
        assert result.exit_code == 0, result.output
        plain = result.output.replace(str(Path.home()), "~").replace(
            str(Path.cwd()), "."
        )
        return (
            "\n".join(line.rstrip() for line in plain.splitlines()).strip("\n") + "\n"
        )

    return render


def test_the_first_screen_has_the_commands_without_their_options():
    outline: Any = typer.main.get_command(build_app("--help"))
    screens = [
        [
            (name, x.help, x.hidden, x.rich_help_panel)
            for name, x in group.commands.items()
        ]
        for group in (outline, COMMAND)
    ]
    assert screens[0] == screens[1] and len(screens[0]) == 19
    assert outline.help == COMMAND.help and [x.name for x in outline.params] == [
        x.name for x in COMMAND.params
    ]
    assert not outline.commands["predict"].params


@pytest.mark.parametrize("names", COMMANDS, ids=lambda names: "-".join(names) or "rsft")
def test_help(render_help, names):
    if os.environ.get(UPDATE):
        compare_with_snapshot("help/made_with.txt", VERSIONS)
    elif VERSIONS_FILE.is_file() and VERSIONS_FILE.read_text("utf-8") != VERSIONS:
        pytest.skip(
            "other versions of typer and rich print other help; installed:"
            f" {VERSIONS.split()}"
        )
    compare_with_snapshot(snapshot_name(names), render_help(names))


def test_no_command_was_removed():
    expected = {snapshot_name(names) for names in COMMANDS}
    snapshots = {f"help/{path.name}" for path in FOLDER.glob("help/rsft*")}
    if os.environ.get(UPDATE):
        for name in snapshots - expected:
            (FOLDER / name).unlink()
        return
    removed = snapshots - expected
    assert not removed, (
        f"snapshots without a command: {removed}; {UPDATE}=1 deletes them"
    )


@pytest.mark.parametrize("name", ["recipe", "sweep"])
def test_schema(name):
    model = Recipe
    if name == "sweep":
        model = pytest.importorskip("rsft.plugins.sweeps.sweep_file").Sweep
    compare_with_snapshot(
        f"{name}.schema.json",
        json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n",
    )


@pytest.mark.parametrize("name", ["rsft", "rsft.peft"])
def test_public_names(name):
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in module.__all__)
    compare_with_snapshot(f"{name}.txt", "\n".join(sorted(module.__all__)) + "\n")
