"""Define arguments and options that several commands share, and make options from the fields of a dataclass."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import typer

from rsft.errors import DataError, RequestError
from rsft.utils.command_options import Option

RootOption = Annotated[Path, typer.Option("--root", help="Folder of the chip store to create: data.root of a recipe.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all random choices.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Number of parallel processes.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of all runs; a run folder is RUNS/<recipe>/<number>.")]
DeviceOption = Annotated[str, typer.Option("--device", help="Device: auto, cpu or cuda.")]
RecipeArgument = Annotated[str, typer.Argument(help="Recipe file, or name of a shipped recipe.")]
BundleArgument = Annotated[Path, typer.Argument(help="Bundle folder, run folder, or runs/<recipe> for its newest run.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Recipe keys to override, as section.key=value: peft.rank=8 train.epochs=3 meta=null"),
]
WordArgument = Annotated[
    str, typer.Argument(metavar="[WORD]", help="Only list entries whose name or description contains WORD.")
]
NotATargetOption = Annotated[
    str | None,
    typer.Option(help="Class of the rows whose verdict is `not a target`, such as clutter (default: left out)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def band_names(text: str | None) -> tuple[str, ...] | None:
    """Return the band names in a comma-separated text such as "VV, VH"; None for None."""
    return tuple(name.strip() for name in text.split(",")) if text else None


def unit_name(text: str | None) -> str | None:
    """Return the unit that a text such as "dB" names; None for None.

    Args:
        text: the value of --unit.

    Raises:
        RequestError: the text is not a unit.
    """
    from rsft.data.imagery.units import parse_unit

    try:
        return parse_unit(text) if text else None
    except DataError as error:
        raise RequestError(error.message, "--unit", "correct the name of the unit") from error


class _FieldOption(NamedTuple):
    """A field of a dataclass that is an option of a command.

    Attributes:
        field: name of the field.
        flag: the option, such as --at-crs.
        hint: type of the field.
        default: default of the field.
        option: its help; None for a dataclass that only adds the options of its fields.
        nested: the dataclass of the field, if it is one; the flag says whether it is made.
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


def takes_options(**parsers: Callable[[str], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator of commands. A parameter that is a dataclass becomes one option per field with an `Option`.

    A field that is a dataclass itself adds the options of its fields. If it has an `Option`, this is a flag, and the
    field is None without it.

    Args:
        parsers: functions that convert the text of an option, by the name of its field.

    Returns:
        The decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints, requests = get_type_hints(command, include_extras=True), {}
        parameters: list[Parameter] = []
        for name, parameter in signature(command).parameters.items():
            if is_dataclass(hints[name]):
                requests[name] = hints[name]
                parameters += _parameters(hints[name], parsers)
            else:
                parameters.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))

        @wraps(command)
        def run(**values: Any) -> None:
            made = {name: _make_request(request, values, parsers) for name, request in requests.items()}
            command(**made, **values)

        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _field_options(request: type[Any]) -> Iterator[_FieldOption]:
    hints = get_type_hints(request, include_extras=True)
    for field in fields(request):
        hint = hints[field.name]
        option = next((x for x in getattr(hint, "__metadata__", ()) if isinstance(x, Option)), None)
        hint = hint if option is None else hint.__origin__
        nested = next((x for x in (hint, *get_args(hint)) if isinstance(x, type) and is_dataclass(x)), None)
        flag = (option.name if option else "") or "--" + field.name.replace("_", "-")
        if option or nested:
            yield _FieldOption(field.name, flag, hint, field.default, option, nested)


def _parameters(request: type[Any], parsers: dict[str, Callable[[str], Any]]) -> Iterator[Parameter]:
    for item in _field_options(request):
        hint, default, option = item.hint, item.default, item.option
        if item.nested is not None:
            hint, default = bool, False
        elif item.field in parsers:
            hint = str | None if default is None else str
        if option is not None:
            panel = None if option.panel == "Options" else option.panel
            text, metavar = option.help, option.metavar
            info = typer.Option(item.flag, help=text, rich_help_panel=panel, metavar=metavar, min=option.min)
            yield Parameter(item.parameter, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info])
        if item.nested is not None:
            yield from _parameters(item.nested, parsers)


def _make_request(request: type[Any], values: dict[str, Any], parsers: dict[str, Callable[[str], Any]]) -> Any:
    """Return an instance of a dataclass, and remove the values of its options from `values`.

    Raises:
        RequestError: an option only works with the flag of its dataclass, such as --land with --detect.
    """
    arguments: dict[str, Any] = {}
    for item in _field_options(request):
        given: Any = values.pop(item.parameter) if item.option else True
        if item.nested is None:
            arguments[item.field] = parsers[item.field](given) if given is not None and item.field in parsers else given
            continue
        nested = _make_request(item.nested, values, parsers)
        for inner in () if given else _field_options(item.nested):
            if getattr(nested, inner.field) != inner.default:
                message = f"{inner.flag} only works with {item.flag}"
                raise RequestError(message, inner.flag, f"give {item.flag} as well")
        arguments[item.field] = nested if given else None
    return request(**arguments)
