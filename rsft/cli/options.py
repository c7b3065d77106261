"""Define arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.errors import DataError, RequestError

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
