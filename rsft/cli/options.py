"""Define arguments and options that several commands share, and make options from the fields of a dataclass."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property, update_wrapper
from inspect import Parameter, Signature, getdoc, signature
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo

from rsft.cli.display.console import error_console
from rsft.errors import DataError, RequestError
from rsft.recipe.library import find_recipe
from rsft.utils.command_options import Option


class FencedCommand(TyperCommand):
    """A command that closes the fence before it runs, if `rsft` was started as a program."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's class of contexts
        """Close the fence, and run the command.

        Raises:
            RequestError: the fence cannot be closed.
        """
        if ctx.obj:
            from rsft.cli.fence import close_fence  # 20 ms that --help does without

            close_fence(str(ctx.info_name), ctx.params)
        return super().invoke(ctx)


def check_bundle(folder: Path) -> None:
    """Raise a RequestError if a folder contains no bundle, see `rsft.models.bundle.bundle.find_bundle`."""
    from rsft.models.bundle.bundle import find_bundle

    find_bundle(folder)


def find_named_recipe(name: str, kind: str = "recipe") -> Path:
    """Return the file of a recipe or sweep, see `find_recipe`; say so if a path stands for what comes with rsft."""
    path = find_recipe(name, kind)
    if len(Path(name).parts) > 1 and path != Path(name):
        text = (
            f"{name} is no file here; this is the {kind} {path.stem} that comes with"
            " rsft"
        )
        error_console.print(text, soft_wrap=True)
    return path


def check_store(root: Path) -> None:
    """Raise a RequestError if a folder is not a chip store."""
    from rsft.data.chips.store import ChipStore

    ChipStore.open(root)


RootOption = Annotated[
    Path,
    typer.Option(
        "--root", help="Folder of the chip store to create: data.root of a recipe."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all random choices.")]
JobsOption = Annotated[
    int, typer.Option("--jobs", min=1, help="Number of parallel processes.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing output.")
]
RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs", help="Folder of all runs; a run folder is RUNS/<recipe>/<number>."
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Device: auto, cpu or cuda.")
]
RecipeArgument = Annotated[
    str, typer.Argument(help="Recipe file, or name of a shipped recipe.")
]
BundleArgument = Annotated[
    Path,
    typer.Argument(
        help="Bundle folder, run folder, or runs/<recipe> for its newest run."
    ),
    check_bundle,
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help=(
            "Recipe keys to override, as section.key=value: peft.rank=8 train.epochs=3"
            " meta=null"
        )
    ),
]
WordArgument = Annotated[
    str,
    typer.Argument(
        metavar="[WORD]",
        help="Only list entries whose name or description contains WORD.",
    ),
]
NotATargetOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "Class of the rows whose verdict is `not a target`, such as clutter"
            " (default: left out)."
        )
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table.")
]


def band_names(text: str | None) -> tuple[str, ...] | None:
    """Return the band names in a comma-separated text such as "VV, VH"; None for None."""
    if text:
        return tuple(name.strip() for name in text.split(","))
    return None


def unit_name(text: str | None) -> str | None:
    """Return the unit that a text such as "dB" names; None for None.

    Raises:
        RequestError: the text is not a unit.
    """
    from rsft.data.imagery.units import parse_unit

    try:
        if text:
            return parse_unit(text)
        return None
    except DataError as error:
        raise RequestError(
            error.message, "--unit", "correct the name of the unit"
        ) from error


def argument_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Return the entries below `Args:` in the docstring of a function, by name."""
    section = (getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def describe_parameter(
    parameter: Parameter, hint: Any, texts: Mapping[str, str]
) -> Parameter:
    """Return a parameter of a command with its help: an argument without a default, otherwise an option.

    An argument whose type has None may be left out.

    Args:
        parameter: parameter of the function.
        hint: its type, in `Annotated` with typer's settings where a flag, a short name
            or a limit need them.
        texts: help by name of the parameter, if the settings have none.
    """
    base, *given = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    is_argument = parameter.default is parameter.empty
    if given:
        info = given[0]
    else:
        info = typer.Argument() if is_argument else typer.Option()
    if info.help is None:
        info.help = texts.get(parameter.name)
    if (
        isinstance(info, OptionInfo) and info.default is ... and not info.param_decls
    ):  # that is the first flag
        info.param_decls = (f"--{parameter.name.replace('_', '-')}",)
    if is_argument and NoneType in get_args(base):
        default = None
    else:
        default = parameter.default
    return parameter.replace(
        annotation=Annotated[base, info], default=default, kind=Parameter.KEYWORD_ONLY
    )


class CommandFunction:
    """A command whose help comes from its docstring.

    A dataclass among its parameters becomes options.

    The parameters are read when the options are first needed: `rsft --help` shows
    commands without options. A function in the `Annotated` type of a parameter checks
    its value before the command runs and imports PyTorch, which takes seconds.

    Args:
        command: the function of the command.
        parsers: functions by name of a field of a dataclass, which make its value of a
            text.
    """

    def __init__(
        self, command: Callable[..., None], parsers: Mapping[str, Callable[[str], Any]]
    ) -> None:
        update_wrapper(self, command, ("__module__", "__name__", "__qualname__"))
        self.command = command
        self.parsers = parsers
        self.__doc__ = (getdoc(command) or "").partition("\n\nArgs:\n")[0]
        self.__annotations__: dict[str, Any] = {}  # typer takes those of the signature

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the parameters by name."""
        return get_type_hints(self.command, include_extras=True)

    @cached_property
    def __signature__(self) -> Signature:
        """The parameters of the command line."""
        texts = argument_texts(self.command)
        parameters = list[Parameter]()
        for name, parameter in signature(self.command).parameters.items():
            if is_dataclass(self.hints[name]):
                parameters += _parameters(self.hints[name], self.parsers)
            else:
                parameters.append(
                    describe_parameter(parameter, self.hints[name], texts)
                )
        return Signature(parameters)

    def __call__(self, **values: Any) -> None:
        """Run the command with the values of its arguments and options."""
        for name, hint in self.hints.items():
            for check in filter(callable, getattr(hint, "__metadata__", ())):
                check(values[name])
        requests: dict[str, Any] = {
            name: hint for name, hint in self.hints.items() if is_dataclass(hint)
        }
        made = {
            name: _make_request(request, values, self.parsers)
            for name, request in requests.items()
        }
        self.command(**made, **values)


def documented(
    command: Callable[..., None], **parsers: Callable[[str], Any]
) -> CommandFunction:
    """Take the help of a command's arguments and options from its docstring, and options from its dataclasses.

    Use it below `command` as a decorator, as `partial(documented, unit=unit_name)` if
    the texts of a field, such as `unit`, must be parsed. Every field with an `Option`
    of a parameter that is a dataclass becomes an option. A field that is a dataclass
    itself adds the options of its fields. If it has an `Option`, this is a flag, and
    the field is None without it.
    """
    return CommandFunction(command, parsers)


def check_new_file(path: Path, overwrite: bool) -> None:
    """Raise a RequestError if a file that a command writes exists, unless it may be overwritten."""
    if path.exists() and not overwrite:
        raise RequestError(
            "the file exists already", path, "choose another name, or add --overwrite"
        )


class _FieldOption(NamedTuple):
    """A field of a dataclass that is an option of a command.

    `nested` is the dataclass of the field, if it is one; the flag then says whether it
    is made. `option` is None for a dataclass that only adds the options of its fields.
    """

    field: str
    flag: str
    hint: Any
    default: Any
    option: Option | None
    nested: type[Any] | None

    @property
    def parameter(self) -> str:
        """Name of the parameter of the command."""
        return self.flag.removeprefix("--").replace("-", "_")


def _field_options(request: type[Any]) -> Iterator[_FieldOption]:
    hints = get_type_hints(request, include_extras=True)
    for field in fields(request):
        hint = hints[field.name]
        option = next(
            (x for x in getattr(hint, "__metadata__", ()) if isinstance(x, Option)),
            None,
        )
        hint = hint if option is None else hint.__origin__
        nested = next(
            (
                x
                for x in (hint, *get_args(hint))
                if isinstance(x, type) and is_dataclass(x)
            ),
            None,
        )
        flag = (option.name if option else "") or "--" + field.name.replace("_", "-")
        if option or nested:
            yield _FieldOption(field.name, flag, hint, field.default, option, nested)


def _parameters(
    request: type[Any], parsers: Mapping[str, Callable[[str], Any]]
) -> Iterator[Parameter]:
    for item in _field_options(request):
        hint = item.hint
        default = item.default
        option = item.option
        if option is not None and option.each is not None:
            yield from _mapping_parameters(option)
            continue
        if item.nested is not None:
            hint = bool
            default = False
        elif item.field in parsers:
            hint = str | None if default is None else str
        if option is not None:
            panel = None if option.panel == "Options" else option.panel
            text = option.help
            metavar = option.metavar
            info = typer.Option(
                item.flag,
                help=text,
                rich_help_panel=panel,
                metavar=metavar,
                min=option.min,
            )
            yield Parameter(
                item.parameter,
                Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[hint, info],
            )
        if item.nested is not None:
            yield from _parameters(item.nested, parsers)


def _mapping_parameters(option: Option) -> Iterator[Parameter]:
    """Yield one option for each name that a field of a mapping may have."""
    assert option.each is not None
    for name, text in option.each().items():
        info = typer.Option(
            f"--{name}",
            help=text,
            rich_help_panel=option.panel,
            metavar=option.metavar,
        )
        yield Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, info],
        )


def _make_request(
    request: type[Any],
    values: dict[str, Any],
    parsers: Mapping[str, Callable[[str], Any]],
) -> Any:
    """Return an instance of a dataclass, and remove the values of its options from `values`.

    Raises:
        RequestError: an option only works with the flag of its dataclass, such as
            --land with --detect.
    """
    arguments: dict[str, Any] = {}
    for item in _field_options(request):
        if item.option is not None and item.option.each is not None:
            paths = {name: values.pop(name) for name in item.option.each()}
            arguments[item.field] = {
                name: path for name, path in paths.items() if path is not None
            }
            continue
        given: Any = values.pop(item.parameter) if item.option else True
        if item.nested is None:
            arguments[item.field] = (
                parsers[item.field](given)
                if given is not None and item.field in parsers
                else given
            )
            continue
        nested = _make_request(item.nested, values, parsers)
        for inner in () if given else _field_options(item.nested):
            if getattr(nested, inner.field) != inner.default:
                raise RequestError(
                    f"{inner.flag} only works with {item.flag}",
                    inner.flag,
                    f"give {item.flag} as well",
                )
        arguments[item.field] = nested if given else None
    return request(**arguments)
