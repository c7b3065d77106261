"""`rsft predict`: from new chips to a table of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.options import BundleArgument, DeviceOption, OverwriteOption, band_names
from rsft.console import progress, show_predictions

app = typer.Typer()


@app.command()
def predict(
    bundle: BundleArgument,
    chips: Annotated[list[Path], typer.Argument(help="Chips: files, folders or globs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write: .gpkg, .geojson or .csv.")],
    unit: Annotated[
        str | None,
        typer.Option(help="Unit of the chips, where the files do not say: amplitude, intensity, sigma0, db."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands of the chips in their order, such as VH,VV; the bundle's if left out.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any chip was refused.")] = False,
    overwrite: OverwriteOption = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Chips in a pass.")] = 64,
    device: DeviceOption = "auto",
) -> None:
    """Classify new chips. What cannot be read or breaks the bundle's contract is listed with its reason."""
    from rsft.predict.inputs import Declared
    from rsft.predict.run import predict as classify

    with progress() as report:
        result = classify(
            bundle,
            chips,
            out,
            declared=Declared(unit, band_names(bands)),
            overwrite=overwrite,
            batch_size=batch_size,
            device=device,
            progress=report,
        )
    show_predictions(result)
    if strict and result.rejected:
        raise typer.Exit(1)
