"""Make the arguments and options of commands from functions and dataclasses.

Types that several commands share are defined here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import date, datetime
from functools import cached_property, update_wrapper
from inspect import Parameter, Signature, getdoc, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from rsft.cli.display.console import error_console, escape_controls
from rsft.cli.display.failures import quiet_console
from rsft.cli.flags import FLAGS, Flags
from rsft.data.prepare.store_build import parse_unit_option
from rsft.errors import RequestError
from rsft.recipe.library import find_recipe
from rsft.utils.command_options import Access, Argument, Option


def check_bundle(folder: Path) -> None:
    """Raise a RequestError if a folder contains no bundle, see `find_bundle`."""
    from rsft.models.bundle.bundle import find_bundle

    find_bundle(folder)


def check_store(root: Path) -> None:
    """Raise a RequestError if a folder is not a chip store."""
    from rsft.data.chips.store import ChipStore

    ChipStore.open(root)


def find_named_recipe(name: str, kind: str = "recipe") -> Path:
    """Return the file of a recipe or sweep, see `find_recipe`.

    Say so if a path stands for a file that comes with rsft.
    """
    path = find_recipe(name, kind)
    if len(Path(name).parts) > 1 and path != Path(name):
        text = f"{name} is no file here; this is the {kind} {path.stem} that comes with"
        error_console.print(f"{text} rsft")
    return path


OUT = Option(name="--out", short="-o", access=Access.WRITE)
"""What a command writes."""

RootOption = Annotated[
    Path,
    Option(
        "Folder of the chip store to create: data.root of a recipe.",
        access=Access.WRITE,
    ),
]
SeedOption = Annotated[int, Option("Seed of all random choices.")]
JobsOption = Annotated[int, Option("Number of parallel processes.", min=1)]
RunsOption = Annotated[
    Path, Option("Folder of all runs; a run folder is RUNS/<recipe>/<number>.")
]
RecipeArgument = Annotated[str, Argument("Recipe file, or name of a shipped recipe.")]
BundleArgument = Annotated[
    Path,
    Argument(
        "Bundle folder, run folder, or runs/<recipe> for its newest run.",
        access=Access.BUNDLE,
    ),
    check_bundle,
]
OverridesArgument = Annotated[
    list[str] | None,
    Argument(
        "Recipe keys to override, as section.key=value: peft.rank=8 train.epochs=3"
        " meta=null"
    ),
]
WordArgument = Annotated[
    str,
    Argument(
        "Only list entries whose name or description contains WORD.", metavar="[WORD]"
    ),
]
UnitOption = Annotated[str | None, Option(parse=parse_unit_option)]
NotATargetOption = Annotated[
    str | None,
    Option(
        "Class of the rows whose verdict is `not a target`, such as clutter (default:"
        " left out)."
    ),
]


def argument_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Return the entries below `Args:` in the docstring of a function, by name."""
    section = (getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


@dataclass(frozen=True)
class CommandParameter:
    """A parameter of a function, or a field of a dataclass, that a command offers.

    Attributes:
        name: its name.
        hint: its type.
        default: `Parameter.empty` if it must be given.
        info: the argument or option; None for a dataclass without one, which only adds
            the options of its fields.
        marks: further metadata of the type.
    """

    name: str
    hint: Any
    default: Any
    info: Option | None
    marks: tuple[Any, ...] = ()

    @cached_property
    def nested(self) -> tuple[CommandParameter, ...]:
        """The options of its dataclass or mapping, if its type is one."""
        if self.is_mapping:
            return tuple(_read_names(self.option))
        request = find_dataclass(self.hint)
        return tuple(_read_fields(request)) if request else ()

    @property
    def option(self) -> Option:
        """The argument or option; one without settings for a dataclass."""
        return self.info or Option()

    @property
    def is_mapping(self) -> bool:
        """Whether its value has one path per option in `nested`."""
        return self.option.each is not None

    @property
    def flag(self) -> str:
        """The name of the option."""
        return self.option.name or "--" + self.name.replace("_", "-")

    def as_parameter(self) -> Parameter:
        """Return the parameter from which typer makes the argument or option."""
        hint = _typer_hint(self.hint)
        default = self.default
        if self.nested:
            hint = bool
            default = False
        if self.option.parse:
            hint = str | None
        if self.option.is_repeated:
            hint = list[str] | None
            default = None
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        info: Any = self.info
        if isinstance(info, Argument):
            info = typer.Argument(help=info.help, metavar=info.metavar)
            if default is Parameter.empty and NoneType in get_args(self.hint):
                default = None
        elif info:
            info = typer.Option(
                *filter(None, (self.flag, info.short)),
                help=info.help,
                rich_help_panel=info.panel,
                metavar=info.metavar,
                min=info.min,
                formats=["%Y-%m-%d"] if hint == datetime | None else None,
            )
        return Parameter(
            self.name,
            Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[hint, info],
        )

    def parse(self, value: Any) -> Any:
        """Return a value of typer as its type says: texts with commas as tuples.

        Raises:
            RequestError: a text is not a list of numbers.
        """
        parse = self.option.parse
        if self.option.is_repeated:
            return parse and parse(value or [])
        if value is None:
            return None
        if parse:
            return parse(value)
        branches = _branches(self.hint)
        for branch in branches:
            if get_origin(branch) is tuple:
                return self._split(value, get_args(branch)[0])
        if date in branches:
            return value.date()
        return value

    def _split(self, text: Any, kind: type) -> tuple[Any, ...] | None:
        if not isinstance(text, str):
            return tuple(text)
        parts = [part.strip() for part in text.split(",")] if text else []
        try:
            return tuple(map(kind, parts)) or None
        except ValueError as error:
            raise RequestError(
                f"{text!r} is not a list of numbers",
                self.flag,
                "give numbers with commas: 0.5,0.5,0.5",
            ) from error


def _branches(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _typer_hint(hint: Any) -> Any:
    """Return the type that typer reads, such as a text for a tuple."""
    branches = _branches(hint)
    if tuple in {get_origin(branch) for branch in branches}:
        return str | None
    if date in branches:
        return datetime | None
    if hint == Path | list[Path]:
        return list[Path]
    return hint


def find_dataclass(hint: Any) -> type[Any] | None:
    """Return the dataclass that a type is, or that it may be besides None."""
    for branch in _branches(hint):
        if isinstance(branch, type) and is_dataclass(branch):
            return branch
    return None


def _read_fields(request: type[Any]) -> Iterator[CommandParameter]:
    """Yield the settings of a dataclass: fields with an `Option`, and dataclasses."""
    hints = get_type_hints(request, include_extras=True)
    for field in fields(request):
        default = field.default
        if default is MISSING:
            is_given = field.default_factory is not MISSING
            default = None if is_given else Parameter.empty
        setting = make_setting(field.name, hints[field.name], default, None)
        if setting.info or setting.nested or setting.name in FLAGS.values():
            yield setting


def _read_names(option: Option) -> Iterator[CommandParameter]:
    """Yield a setting for each name that a mapping may have."""
    texts = option.each() if option.each else {}
    for name, text in texts.items():
        info = Option(text, panel=option.panel, metavar=option.metavar)
        yield CommandParameter(name, Path | None, None, info)


def make_setting(
    name: str, hint: Any, default: Any, info: Option | None
) -> CommandParameter:
    """Return the setting for a parameter or field.

    Args:
        name: name of the parameter or field.
        hint: its type.
        default: `Parameter.empty` for a parameter without one.
        info: how a command offers it, unless its type says so.
    """
    marks = getattr(hint, "__metadata__", ())
    if marks:
        hint = hint.__origin__
    infos = [x for x in marks if isinstance(x, Option)]
    if infos:
        info = infos[0]
    elif find_dataclass(hint):
        info = None
    return CommandParameter(name, hint, default, info, marks)


class CommandFunction:
    """A command whose arguments and options are the parameters of a function.

    Their help comes from their types or from the docstring. A dataclass among the
    parameters becomes options. A parameter with the name of a flag, such as `as_json`,
    is given the flag. A function in the `Annotated` type of a parameter checks its
    value before the command runs and imports PyTorch, which takes seconds.

    The parameters are read when the options are first needed: `rsft --help` shows
    commands without options.

    Args:
        function: the function.
    """

    flags: tuple[str, ...] = ()
    """Flags that the command takes besides those among its parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(
            self, function, ("__module__", "__name__", "__qualname__"), updated=()
        )
        self.function = function
        text = (getdoc(function) or "").partition("\n\nArgs:\n")[0]
        taken = {*self.flags, *signature(function).parameters}
        flags = [flag for flag, name in FLAGS.items() if name in taken]
        if flags:
            text += f"\n\nAlso takes {' and '.join(flags)}, see `rsft --help`."
        self.__doc__ = text
        self.__annotations__: dict[str, Any] = {}  # typer takes those of the signature

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters of the function that the command offers."""
        return list(signature(self.function).parameters.values())

    @cached_property
    def settings(self) -> list[CommandParameter]:
        """The parameters as settings."""
        texts = argument_texts(self.function)
        settings = []
        for parameter, hint in self.read_hints():
            text = texts.get(parameter.name, "")
            if parameter.default is Parameter.empty:
                info: Option = Argument(text)
            else:
                info = Option(text)
            setting = make_setting(parameter.name, hint, parameter.default, info)
            if setting.info and not setting.info.help:
                setting = replace(setting, info=replace(setting.info, help=text))
            settings.append(setting)
        return settings

    def read_hints(self) -> Iterator[tuple[Parameter, Any]]:
        """Yield the parameters with their types."""
        hints = get_type_hints(self.function, include_extras=True)
        for parameter in self.parameters:
            yield parameter, hints[parameter.name]

    @cached_property
    def __signature__(self) -> Signature:
        """The parameters of the command line, and the context of typer."""
        context = Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)
        options = [setting.as_parameter() for setting in _list_options(self.settings)]
        return Signature([context, *options])

    def __call__(self, *, ctx: typer.Context, **values: Any) -> None:
        """Run the command with the values of its arguments and options.

        Its files are read in a cell, if `rsft` was started as a program.

        Raises:
            RequestError: the command does not take a flag or a value, or a link leads
                to what no argument names.
        """
        flags = ctx.obj or Flags()
        self._check_flags(flags)
        if flags.uses_cell:
            from rsft.cli.reading import open_reading_cell  # --help does without

            readable = open_reading_cell(self.find_files(values))
            if flags.debug:
                names = ", ".join(map(escape_controls, map(str, readable)))
                error_console.print(f"may be read: {names}")
        with quiet_console(flags.quiet, flags.as_json):
            for setting in self.settings:
                for check in filter(callable, setting.marks):
                    check(values[setting.name])
            self.run(_take_values(self.settings, values, flags), flags)

    def run(self, arguments: dict[str, Any], flags: Flags) -> None:
        """Call the function."""
        self.function(**arguments)

    def find_files(self, values: Mapping[str, Any]) -> list[tuple[Access, Any]]:
        """Return the values of the parameters, and what the command does with them.

        Args:
            values: values by name of a parameter; missing ones are left out.
        """
        files = []
        for setting in _list_options(self.settings):
            if setting.name in values and setting.info:
                value = values[setting.name]
                items = value if isinstance(value, list | tuple) else [value]
                files += [(setting.info.access, item) for item in items]
        return files

    def _check_flags(self, flags: Flags) -> None:
        taken = {*self.flags, "quiet"}
        taken |= {setting.name for setting in _flatten(self.settings)}
        for flag, name in FLAGS.items():
            if name != "debug" and name not in taken and getattr(flags, name):
                raise RequestError(
                    f"this command does not take {flag}", flag, "leave it out"
                )


def documented(function: Callable[..., Any]) -> CommandFunction:
    """Make a command of a function, see `CommandFunction`; a decorator."""
    return CommandFunction(function)


def _flatten(settings: Iterable[CommandParameter]) -> Iterator[CommandParameter]:
    """Yield settings, and the options of dataclasses among them."""
    for setting in settings:
        yield setting
        yield from _flatten(setting.nested)


def _list_options(settings: Iterable[CommandParameter]) -> Iterator[CommandParameter]:
    """Yield the settings that are arguments or options of the command."""
    for setting in _flatten(settings):
        is_flag = setting.name in FLAGS.values()
        if setting.info and not is_flag and not setting.is_mapping:
            yield setting


def _take_values(
    settings: Iterable[CommandParameter], values: Mapping[str, Any], flags: Flags
) -> dict[str, Any]:
    """Return the value of each setting: a flag, an option, or a dataclass.

    Raises:
        RequestError: a value is wrong, or an option only works with the flag of its
            dataclass, such as --land with --detect.
    """
    arguments = {}
    for setting in settings:
        if setting.name in FLAGS.values():
            arguments[setting.name] = getattr(flags, setting.name)
        elif setting.is_mapping:
            paths = {inner.name: values[inner.name] for inner in setting.nested}
            arguments[setting.name] = {x: path for x, path in paths.items() if path}
        elif not setting.nested:
            arguments[setting.name] = setting.parse(values[setting.name])
        elif not setting.info or values[setting.name]:
            request: Any = find_dataclass(setting.hint)
            arguments[setting.name] = request(
                **_take_values(setting.nested, values, flags)
            )
        else:
            _check_unused(setting, values)
            arguments[setting.name] = None
    return arguments


def _check_unused(setting: CommandParameter, values: Mapping[str, Any]) -> None:
    for inner in setting.nested:
        if values[inner.name] != inner.default:
            raise RequestError(
                f"{inner.flag} only works with {setting.flag}",
                inner.flag,
                f"give {setting.flag} as well",
            )
