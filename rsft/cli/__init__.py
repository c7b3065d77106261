"""Define the command line. Heavy imports are inside the commands."""

import logging
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from rsft.cli import backbones, bundle, data, jobs, predict, prepare, runs
from rsft.cli.display.console import PlainFormatter, PlainGroup, console, error_console, format_warning, show_error
from rsft.cli.display.failures import show_failure
from rsft.utils.dependencies import disable_telemetry
from rsft.version import __version__

app = typer.Typer(
    cls=PlainGroup,
    help="Fine-tune a frozen vision transformer on remote-sensing chips: few labels, rare classes, "
    "one learned scale per site of the network."
    "\n\nFirst steps:  rsft prepare demo --root data/demo  then  rsft finetune quickstart",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(prepare.app, name="prepare")
app.add_typer(data.app, name="data")
app.add_typer(data.audit_app)
app.add_typer(jobs.app)
app.add_typer(predict.app)
app.add_typer(bundle.app, name="bundle")
app.add_typer(bundle.export_app)
app.add_typer(runs.recipes_app, name="recipes")
app.add_typer(jobs.sweep_app)
app.add_typer(runs.app, name="runs")
app.add_typer(runs.report_app, name="report")
app.add_typer(backbones.app, name="backbones")
app.add_typer(backbones.weights_app, name="weights")


def _version(show: bool) -> None:
    if show:
        console.print(f"rsft {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Define the options of every command. `main` handles --debug, wherever it is given."""


def main() -> None:
    """Run the command line. Print every error as a sentence with its location and a hint.

    An exception that rsft does not expect ends with the path of a crash file and exit code 70. With --debug, every
    exception is raised.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    debug = len(arguments) < len(sys.argv) - 1
    disable_telemetry()
    os.environ["MPLBACKEND"] = "agg"  # that of a notebook's kernel may be missing here, and commands open no windows
    warnings.formatwarning = format_warning
    if logging.lastResort is not None:  # prints warnings
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        error_console.print("stopped")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        sys.exit(show_failure(error, arguments, show_error))
