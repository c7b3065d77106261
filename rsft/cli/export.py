"""`rsft export`: write a bundle as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import changes_table, console, progress, show_paths
from rsft.cli.display.licenses import warn_about_licenses
from rsft.cli.options import BundleArgument, OverwriteOption, unit_name
from rsft.inference.engines.base import FORMATS

app = typer.Typer()

Whole = Annotated[
    bool,
    typer.Option(
        "--whole", help="Write the whole pipeline, from the pixels of a chip to calibrated probabilities. Only onnx."
    ),
]
Unit = Annotated[
    str | None, typer.Option(help="Unit of the pixels, for --whole (default: the first one of the bundle).")
]
Side = Annotated[
    int | None, typer.Option(min=1, help="Chip size in pixels, for --whole (default: the bundle's center crop).")
]


@app.command()
def export(
    bundle: BundleArgument,
    format_name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"Format to write: {', '.join(FORMATS)}.")
    ],
    precision: Annotated[
        str, typer.Option(help="Precision: fp32, bf16 or int8. Not every format supports all of them.")
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write (default: exports/FORMAT-PRECISION beside the bundle)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Chip store that the bundle was trained on (default: data.root of its recipe).")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, help="Percentage points of accuracy that int8 may lose, overall and in each group.")
    ] = 0.5,
    whole: Whole = False,
    unit: Unit = None,
    side: Side = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a bundle as files for another program, together with its classes, contract and hash.

    onnx, openvino and torch-export files run without rsft. timm and peft files only contain weights: those of the
    merged network and its head, or those of the LoRA.

    Every export is loaded again and compared with PyTorch, int8 by its accuracy and others by their outputs. An export
    that differs too much is deleted.

    If int8 loses too much accuracy in a group of classes, the first blocks stay in floating point.

    `rsft predict --engine OUT` classifies with an export that an engine can run, without PyTorch.
    """
    from rsft.inference.export.export import export_bundle
    from rsft.inference.export.parity import AccuracyLossError

    warn_about_licenses([bundle], unknown=True)
    try:
        with progress() as report:
            result = export_bundle(
                bundle,
                format_name,
                precision,
                out,
                data=data,
                max_loss=max_loss,
                whole=whole,
                unit=unit_name(unit),
                side=side,
                overwrite=overwrite,
                progress=report,
            )
    except AccuracyLossError as error:
        console.print(changes_table(error.table))
        raise
    if result.changes:
        console.print(changes_table(result.changes))
    for line in result.notes:
        console.print(line, soft_wrap=True)
    show_paths({"export": result.folder})
