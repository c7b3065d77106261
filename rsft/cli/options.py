"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RootOption = Annotated[Path, typer.Option("--root", help="Folder to make; a recipe names it as data.root.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Every random choice follows from it.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Processes that work at once.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call made there.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Where run folders go: RUNS/<recipe>/<number>.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")]
BundleArgument = Annotated[Path, typer.Argument(help="The folder bundle/ of a run.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Keys to change, as section.key=value: peft.rank=8 train.epochs=3 meta=null")
]
WordArgument = Annotated[str, typer.Argument(metavar="[WORD]", help="Show those alone that tell this of themselves.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def band_names(text: str | None) -> tuple[str, ...] | None:
    """ "VV, VH" as names."""
    return tuple(name.strip() for name in text.split(",")) if text else None
