"""Define the command line.

Only the module of the command that runs is imported; heavy imports are in the commands.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from inspect import getdoc
from io import TextIOWrapper
from typing import Annotated

import typer

from rsft.cli.display.console import (
    PlainFormatter,
    PlainGroup,
    console,
    error_console,
    format_warning,
)
from rsft.cli.display.failures import show_failure
from rsft.cli.flags import take_flags
from rsft.utils.dependencies import disable_telemetry
from rsft.utils.remote_files import refuse_servers
from rsft.utils.untrusted.gdal_drivers import LIMIT
from rsft.utils.user_folders import set_user_folders
from rsft.version import __version__

_APPS = {
    "prepare": "prepare.app",
    "data": "data.app",
    "audit": "data.audit_app",
    "finetune": "finetune.app",
    "evaluate": "evaluate.app",
    "doctor": "doctor.app",
    "predict": "predict.app",
    "bundle": "bundle.app",
    "export": "export.app",
    "recipes": "runs.recipes_app",
    "runs": "runs.app",
    "report": "runs.report_app",
    "backbones": "backbones.app",
    "weights": "backbones.weights_app",
}
"""Name of a command or group -> module and app with it, in the order of `rsft
--help`."""

_HELP = ("-h", "--help")


def _version(show: bool) -> None:
    if show:
        console.print(f"rsft {__version__}")
        raise typer.Exit


def _options(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Show the traceback of an error, and what a command may read.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON in place of tables and progress."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing output.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no tables and no progress.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Define the options of every command, see `rsft.cli.flags`.

    `main` takes all but --version, wherever they are given.
    """


def build_app(command: str = "") -> typer.Typer:
    """Return the command line.

    It has only the app of `command`, if there is one, and imports no other.

    For `--help`, which shows all commands, it has them without their options.
    """
    app = typer.Typer(
        cls=PlainGroup,
        help=(
            "Fine-tune a frozen vision transformer on remote-sensing chips: few labels,"
            " rare classes, one learned scale per site of the network.\n\nFirst steps: "
            " rsft prepare demo --root data/demo  then  rsft finetune"
            " quickstart\n\nYour own chips, one folder per class:  rsft finetune CHIPS"
        ),
        rich_markup_mode="rich",
        context_settings={"help_option_names": [*_HELP]},
    )
    app.callback()(_options)
    for commands in _load_apps(command):
        app.add_typer(_outline(commands) if command in _HELP else commands)
    return app


def _load_apps(command: str) -> Iterator[typer.Typer]:
    """Import the app with a command, or all apps if no app has it."""
    if command in _APPS:
        yield _import_app(_APPS[command])
        return
    from rsft.cli.plugin_commands import find_commands, load_app, load_apps

    registered = find_commands()
    if command in registered:
        yield load_app(registered[command])
        return
    yield from map(_import_app, dict.fromkeys(_APPS.values()))
    yield from load_apps(registered.values())


def _import_app(location: str) -> typer.Typer:
    module, _, name = location.partition(".")
    app: typer.Typer = getattr(import_module(f"rsft.cli.{module}"), name)
    return app


def _outline(app: typer.Typer) -> typer.Typer:
    """Return an app with the names and helps of another, but without options."""
    outline = typer.Typer(name=app.info.name, help=app.info.help)
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", None)
        outline.command(name, help=command.help or getdoc(command.callback))(
            lambda: None
        )
    return outline


def run() -> None:
    """Run the command line as a program: commands read files in a cell.

    No command asks a server that no argument names, whatever its files say.
    """
    os.environ[LIMIT] = "limited"
    refuse_servers()
    main(uses_cell=True)


def main(*, uses_cell: bool = False) -> None:
    """Run the command line.

    Print every error as a sentence with its location and a hint. An exception that rsft
    does not expect ends with the path of a crash file and exit code 70. With --debug,
    every exception is raised.

    Args:
        uses_cell: whether commands open the reader cell, see `rsft.cli.reading`.
    """
    words, flags = take_flags(sys.argv[1:], uses_cell=uses_cell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # file names need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    disable_telemetry()
    # OpenMP's threads sleep while they wait; read by torch
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # mimalloc, pyarrow's own, keeps much freed memory
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # that of a notebook's kernel may be missing here, and commands open no windows
    os.environ["MPLBACKEND"] = "agg"
    warnings.formatwarning = format_warning
    if logging.lastResort:  # prints warnings
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        set_user_folders()
        build_app(*words[:1])(args=words, obj=flags)
    except (KeyboardInterrupt, SystemExit) as error:  # typer makes the 2nd of the 1st
        code = getattr(error, "code", INTERRUPTED)
        if code == INTERRUPTED:
            _end_at_next_interrupt()
            error_console.print("stopped")
        sys.exit(code)
    except Exception as error:  # whatever a command or a library raises
        if flags.debug:
            raise
        code = show_failure(error, sys.argv[1:])
        if code == INTERRUPTED:
            _end_at_next_interrupt()
        sys.exit(code)


INTERRUPTED = 128 + signal.SIGINT


def _end_at_next_interrupt() -> None:
    """Let another Ctrl-C end the process at once, without tracebacks of libraries."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
