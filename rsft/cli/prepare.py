"""`rsft prepare`: raw data into chips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.options import OverwriteOption, RootOption, SeedOption
from rsft.console import progress, show_store

app = typer.Typer(help="Turn raw data into a folder of chips with one manifest.", no_args_is_help=True)


@app.command("demo")
def prepare_demo(root: RootOption, seed: SeedOption = 0, overwrite: OverwriteOption = False) -> None:
    """Simulate SAR ship chips (FUSAR-Ship and SRSDD formats) and make them a long-tailed data set of four classes."""
    from rsft.prepare.demo import prepare_demo as prepare

    with progress() as report:
        store = prepare(root, seed=seed, overwrite=overwrite, progress=report)
    show_store(store)


@app.command("folder")
def prepare_folder(
    source: Annotated[
        Path, typer.Argument(help="Class folders (with train/ val/ test/ above them or not), or path-label lists.")
    ],
    root: RootOption,
    imbalance: Annotated[
        float | None, typer.Option(min=1, help="Make the training split long-tailed: largest class / smallest class.")
    ] = None,
    val: Annotated[float, typer.Option(help="Share of each class for validation, where SOURCE has no split.")] = 0.2,
    names: Annotated[Path | None, typer.Option(help="Text file of class names: one `folder name` pair a line.")] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Make chips from a tree of class folders; pixels and files stay as they are."""
    from rsft.prepare.folder import prepare_folder as prepare

    with progress() as report:
        store = prepare(
            source, root, imbalance=imbalance, val=val, names=names, seed=seed, overwrite=overwrite, progress=report
        )
    show_store(store)
