"""`rsft prepare`: build chip stores, one command per data set of `rsft.data.prepare.registry.DATASETS`."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

import typer
from rich.text import Text

from rsft.cli import options
from rsft.cli.display.console import PlainGroup, console, escape_controls, show_store
from rsft.cli.options import (
    FencedCommand,
    argument_texts,
    band_names,
    describe_parameter,
)
from rsft.errors import RsftError

_SHARED: dict[str, Any] = {
    **{"root": options.RootOption, "jobs": options.JobsOption},
    **{"seed": options.SeedOption, "overwrite": options.OverwriteOption},
}
_JSON = Annotated[
    bool,
    typer.Option(
        "--json", help="Print progress and result as JSON, one object per line."
    ),
]
_CONSEQUENCES = {
    "train": "these classes cannot be learned",
    "val": "validation and calibration do not see these classes",
    "test": "the accuracy of these classes is not measured",
}


class DatasetGroup(PlainGroup):
    """The commands of all data sets, made when they are first needed."""

    @property
    def commands(self) -> dict[str, Any]:
        """The commands by name; a data set whose package cannot be imported is left out with a warning."""
        return _dataset_commands()

    @commands.setter
    def commands(self, value: object) -> None:
        """Ignore the commands that typer finds: none."""


@cache
def _dataset_commands() -> dict[str, Any]:
    import rsft.inference.prepare_scenes  # noqa: F401
    from rsft.data.prepare.registry import DATASETS

    group = typer.Typer()
    group.callback()(lambda: None)  # a group, even with a single command
    for name in sorted(
        DATASETS, key=lambda name: name != "scenes"
    ):  # the others keep their order
        try:
            function = DATASETS[name]
        except ImportError as error:
            warnings.warn(
                f"the data set {name} cannot be imported: {error}", stacklevel=2
            )
            continue
        summary = (inspect.getdoc(function) or "").partition("\n\n")[0]
        command = group.command(
            name, cls=FencedCommand, help=summary, rich_help_panel=function.heading
        )
        command(make_command(function))
    return dict(typer.main.get_group(group).commands)


app = typer.Typer(
    name="prepare",
    cls=DatasetGroup,
    help="Build a chip store: a folder of chips with one manifest.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Build a chip store: a folder of chips with one manifest."""


def _note_store(root: Path, data_set: str) -> str:
    """Note a new store for later commands, and return the line that says so; without a writable home, say that."""
    from rsft.data.chips.store_notes import note_store, notes_file

    name = data_set or root.resolve().name
    try:
        note_store(root, data_set)
    except RsftError as error:
        reason = f"{error.message}: {error.location}"
        return (
            "note: not listed for recipes in other folders, which need"
            f" data.root={root} ({reason})"
        )
    return (
        f"note: listed as {name} in {notes_file()}, so that a recipe for data/{name}"
        " finds it from any folder"
    )


def make_command(function: Any) -> Callable[..., None]:
    """Return the command of a data set, which builds a chip store, and shows its counts and what a split lacks.

    Args:
        function: a function that `data_set` has registered;
            `rsft.data.prepare.registry` says how its parameters become options.
    """
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    parameters = parameters[: names.index("overwrite") + 1]
    annotations = SimpleNamespace(
        __annotations__={
            parameter.name: parameter.annotation for parameter in parameters
        }
    )
    hints = get_type_hints(
        annotations, vars(sys.modules[function.__module__]), include_extras=True
    )
    texts = argument_texts(function)
    tuples = [
        name for name, hint in hints.items() if hint == tuple[str, ...] | None
    ]  # texts with commas
    hints |= {
        name: list[Path] for name, hint in hints.items() if hint == Path | list[Path]
    }
    hints |= dict.fromkeys(tuples, str | None) | _SHARED

    def command(as_json: bool, **arguments: Any) -> None:
        from rsft.cli.display.results import emit_store, report_progress
        from rsft.data.chips.store import list_first_names, missing_classes

        arguments |= {name: band_names(arguments[name]) for name in tuples}
        with report_progress(as_json) as report:
            store = function(**arguments, progress=report)
        lines = [
            f"warning: no chip in {split}: {list_first_names(names)};"
            f" {_CONSEQUENCES[split]}"
            for split, names in missing_classes(store.counts).items()
        ]
        names = {
            name
            for chips in store.counts.values()
            for name, count in chips.items()
            if count
        }
        if len(names) == 1:
            name = names.pop()
            lines.append(
                f"warning: all chips have the class {name}; `rsft finetune` needs at"
                " least two classes"
            )
        lines += function.notes(store, arguments)
        lines.append(
            _note_store(store.root, function.name if function.is_published else "")
        )
        if as_json:
            emit_store(store, lines)
            return
        show_store(store)
        for line in lines:
            before, mark, after = line.rpartition("warning: ")
            console.print(
                Text.assemble(before, (mark, "yellow"), escape_controls(after)),
                soft_wrap=True,
            )

    described = [
        describe_parameter(parameter, hints[parameter.name], texts)
        for parameter in parameters
    ]
    described.append(
        inspect.Parameter(
            "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON
        )
    )
    vars(command)["__signature__"] = inspect.Signature(described)
    return command
