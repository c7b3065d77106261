"""`rsft data`: look at a prepared root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, progress, show_store
from rsft.cli.options import OverwriteOption

app = typer.Typer(help="Look at prepared chips: what they are, how many, and how they look.", no_args_is_help=True)

RootArgument = Annotated[Path, typer.Argument(help="A folder made by `rsft prepare`.")]


@app.command("show")
def data_show(
    root: RootArgument, chip: Annotated[str | None, typer.Argument(help="Name or path of a chip.")] = None
) -> None:
    """Counts by class and split; with CHIP, all that the manifest says of it."""
    from rsft.data.chips.store import ChipStore
    from rsft.errors import RequestError

    store = ChipStore.open(root)
    if chip is None:
        show_store(store)
        return
    rows = store.table[(store.table["name"] == chip) | (store.table["path"] == chip)]
    if rows.empty:
        raise RequestError(
            f"there is no chip called {chip}", root, "give the name or the path of a row of the manifest"
        )
    for _, row in rows.iterrows():
        for name, value in row.dropna().items():
            shown = " ".join(f"{number:g}" for number in value) if name == "box" else str(value)
            if shown:
                console.print(f"{name:<14} {shown}", soft_wrap=True, markup=False)
        console.print()


@app.command("stats")
def data_stats(root: RootArgument) -> None:
    """Counts, sizes, number types and pixel ranges, sources, splits and groups; reads every chip."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from rsft.data.chips.store import SPLITS, ChipStore
    from rsft.data.chips.summary import summarise_pixels

    store = ChipStore.open(root)
    with progress() as report:
        pixels = summarise_pixels(root, store.table, report)
    show_store(store)
    kinds = Table("pixels", "chips", "sides", "lowest", "highest", "mean", "MB", box=SIMPLE_HEAD, pad_edge=False)
    for kind, found in pixels.to_dict("index").items():
        values = (f"{found['lowest']:g}", f"{found['highest']:g}", f"{found['mean']:.4g}")
        sides = f"{found['shortest']}-{found['longest']} px"
        kinds.add_row(str(kind), f"{found['chips']:,}", sides, *values, f"{found['bytes'] / 1e6:,.1f}")
    console.print(kinds)
    console.print(f"bands        {', '.join(store.bands)}", markup=False)
    for column in ("source", "sensor", "polarisation"):
        tally = store.table[column].value_counts()
        if len(tally):
            told = ", ".join(f"{name} {count:,}" for name, count in sorted(tally.items()))
            console.print(f"{column:<12} {told}", markup=False)
    for group, names in store.groups.items():
        split = store.table[store.table["class"].isin(names)]["split"].value_counts()
        told = ", ".join(f"{name} {split[name]:,}" for name in SPLITS if name in split)
        if told:
            console.print(f"{group:<12} {told} ({', '.join(names)})", soft_wrap=True, markup=False)


@app.command("contact-sheet")
def data_contact_sheet(
    root: RootArgument,
    out: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")],
    name: Annotated[str | None, typer.Option("--class", help="Chips of this class alone.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Chips of train, val or test alone.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """A page of chips, evenly drawn in the order of the manifest."""
    from rsft.data.chips.figures import contact_sheet, sheet_numbers
    from rsft.data.chips.store import ChipStore
    from rsft.errors import RequestError
    from rsft.utils.atomic_files import write_bytes

    store = ChipStore.open(root)
    if out.exists() and not overwrite:
        raise RequestError("there is a file already", out, "name another one, or add --overwrite")
    if name is not None and name not in store.classes:
        raise RequestError(f"there is no class {name}", root, f"choose one of {', '.join(store.classes)}")
    table = store.table if split is None else store.split(split)
    table = table if name is None else table[table["class"] == name]
    if table.empty:
        raise RequestError("no chip is both of this class and of this split", root, "leave one of them out")
    paths = [root / path for path in table["path"]]
    shown = [paths[number] for number in sheet_numbers(len(paths))]
    write_bytes(out, contact_sheet(shown))
    console.print(f"{out}: {len(shown)} of {len(paths):,} chips", soft_wrap=True, markup=False)
