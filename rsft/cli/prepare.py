"""`rsft prepare`: build chip stores, one command per registered data set."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from inspect import Parameter, getdoc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from rich.text import Text

from rsft.cli import options
from rsft.cli.display.console import PlainGroup, console, escape_controls, show_store
from rsft.cli.flags import Flags
from rsft.cli.options import CommandFunction
from rsft.errors import RsftError

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore

_SHARED: dict[str, Any] = {
    "root": options.RootOption,
    "jobs": options.JobsOption,
    "seed": options.SeedOption,
}
"""Types of parameters that several data sets have."""

_CONSEQUENCES = {
    "train": "these classes cannot be learned",
    "val": "validation and calibration do not see these classes",
    "test": "the accuracy of these classes is not measured",
}


class DatasetGroup(PlainGroup):
    """The commands of all data sets, made when they are first needed."""

    @property
    def commands(self) -> dict[str, Any]:
        """The commands by name; a data set that cannot be imported gives a warning."""
        return _dataset_commands()

    @commands.setter
    def commands(self, value: object) -> None:
        """Ignore the commands that typer finds: none."""


@cache
def _dataset_commands() -> dict[str, Any]:
    import rsft.scenes.preparation.prepare  # noqa: F401
    from rsft.data.prepare.registry import DATASETS

    group = typer.Typer()
    group.callback()(lambda: None)  # a group, even with a single command
    # the others keep their order
    names = sorted(DATASETS, key=lambda name: name != "scenes")
    for function in DATASETS.usable(names):
        command = StoreCommand(function)
        summary = (getdoc(function) or "").partition("\n\n")[0]
        flags = (command.__doc__ or "").rpartition("\n\n")[2]
        group.command(
            function.name,
            help=f"{summary}\n\n{flags}",
            rich_help_panel=function.heading,
        )(command)
    return dict(typer.main.get_group(group).commands)


app = typer.Typer(
    name="prepare",
    cls=DatasetGroup,
    help="Build a chip store: a folder of chips with one manifest.",
)


@app.callback()
def _group() -> None:
    """Build a chip store: a folder of chips with one manifest."""


def _note_store(root: Path, data_set: str) -> str:
    """Note a new store for later commands, and return the line that says so."""
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


class StoreCommand(CommandFunction):
    """The command of a data set: it builds a chip store, and shows what is in it.

    `rsft.data.prepare.registry` says how the parameters of the function of a data set
    become options.
    """

    flags = ("as_json",)

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters up to `overwrite`; those behind it are for programs."""
        parameters = super().parameters
        names = [parameter.name for parameter in parameters]
        return parameters[: names.index("overwrite") + 1]

    def read_hints(self) -> Iterator[tuple[Parameter, Any]]:
        """Yield the parameters with their types, or the types that commands share."""
        annotated = SimpleNamespace(
            __annotations__={x.name: x.annotation for x in self.parameters}
        )
        module = vars(sys.modules[self.function.__module__])
        hints = get_type_hints(annotated, module, include_extras=True)
        for parameter in self.parameters:
            name = parameter.name
            yield parameter, _SHARED.get(name, hints[name])

    def run(self, arguments: dict[str, Any], flags: Flags) -> None:
        """Build the chip store, and show its counts and what a split lacks."""
        from rsft.cli.display.results import emit_store, report_progress

        function: Any = self.function
        with report_progress(flags.as_json) as report:
            store = function(**arguments, progress=report)
        lines = [*_find_gaps(store), *function.notes(store, arguments)]
        name = function.name if function.is_published else ""
        lines.append(_note_store(store.root, name))
        if flags.as_json:
            emit_store(store, lines)
            return
        show_store(store)
        for line in lines:
            before, mark, after = line.rpartition("warning: ")
            console.print(
                Text.assemble(before, (mark, "yellow"), escape_controls(after))
            )


def _find_gaps(store: ChipStore) -> Iterator[str]:
    """Yield a warning for each split that lacks a class, and for a single class."""
    from rsft.data.chips.class_names import list_first_names, missing_classes
    from rsft.data.datasets.rare_classes import RARE, find_rare

    for split, names in missing_classes(store.counts).items():
        yield (
            f"warning: no chip in {split}: {list_first_names(names)};"
            f" {_CONSEQUENCES[split]}"
        )
    totals = sum(map(Counter[str], store.counts.values()), Counter[str]())
    classes = list(+totals)
    if len(classes) == 1:
        yield (
            f"warning: all chips have the class {classes[0]}; `rsft finetune` needs at"
            " least two classes: check the class folders, or the classes of the labels"
        )
    rare = [f"{name} ({count})" for name, count in find_rare(totals).items()]
    if rare:
        yield (
            f"warning: fewer than {RARE} chips: {list_first_names(rare)}; they are"
            " hardly learned, and other chips may be given to them (--rare merge makes"
            " one class of them, --rare drop leaves them out)"
        )
