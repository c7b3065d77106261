"""Commands of plug-ins and of other installed packages.

The entry-point group `rsft.commands` registers them. The name "ais" is a command
`rsft ais`, or a group of commands; "bundle sign" is a command of the group
`rsft bundle`. The object is a `typer.Typer`, or a function whose docstring explains its
arguments as `rsft.cli.options.documented` reads them. It is imported when the command
runs, and for the `--help` of its group.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from rsft.cli.display.console import PlainGroup
from rsft.cli.options import CommandFunction, documented
from rsft.utils.registry import entry_points_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "rsft.commands"


def find_commands(group: str = "") -> dict[str, EntryPoint]:
    """Return the registered commands of a group by name; those of `rsft` by default."""
    commands = {}
    for path, point in entry_points_of(GROUP).items():
        parent, _, name = path.rpartition(" ")
        if parent == group:
            commands[name] = point
    return commands


def load_app(point: EntryPoint) -> typer.Typer:
    """Import a registered command, and return an app that has it.

    Raises:
        ImportError: the command cannot be imported.
    """
    command = point.load()
    if isinstance(command, typer.Typer):
        return command
    if not isinstance(command, CommandFunction):
        command = documented(command)
    app = typer.Typer(add_completion=False)
    app.command(point.name.rpartition(" ")[2])(command)
    return app


def load_apps(points: Iterable[EntryPoint]) -> Iterator[typer.Typer]:
    """Import commands; warn of those that cannot be imported, and leave them out."""
    for point in points:
        try:
            yield load_app(point)
        except ImportError as error:
            warnings.warn(
                f"the command {point.name} cannot be imported: {error}", stacklevel=2
            )


class ExtensibleGroup(PlainGroup):
    """A group of commands to which plug-ins add commands."""

    @property
    def commands(self) -> Any:
        """The commands by name: those of rsft, then those of plug-ins."""
        commands = dict(self._builtin)
        for app in load_apps(find_commands(str(self.name)).values()):
            command = _build(app)
            commands[str(command.name)] = command
        return commands

    @commands.setter
    def commands(self, value: Any) -> None:
        """Set the commands of rsft."""
        self._builtin = value

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, and import no other; None for an unknown name."""
        if cmd_name in self._builtin:
            return self._builtin[cmd_name]
        point = find_commands(str(self.name)).get(cmd_name)
        if not point:
            return None
        return _build(load_app(point))


def _build(app: typer.Typer) -> Any:
    """Return the command of an app; typer has several classes of commands."""
    return typer.main.get_command(app)
