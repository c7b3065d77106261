"""`rsft export`: a bundle for other runtimes and other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import changes_table, console, progress, show_paths
from rsft.cli.options import BundleArgument, OverwriteOption

app = typer.Typer()


@app.command()
def export(
    bundle: BundleArgument,
    kind: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="onnx, openvino, torch-export (.pt2), timm, or peft."),
    ],
    precision: Annotated[
        str, typer.Option(help="fp32; bf16 of openvino and torch-export; int8 of onnx and openvino.")
    ] = "fp32",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make; exports/FORMAT-PRECISION beside the bundle.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The chips of the training, prepared; where the recipe says if left out.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0, help="Points of accuracy that int8 may lose, overall and in each group.")
    ] = 0.5,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a bundle as one file for another runtime, with classes, contract and hash of the bundle in it.

    onnx and openvino run without PyTorch; torch-export is a graph of PyTorch; timm is the merged network and its head
    as a state dict; peft is the LoRA alone, as Hugging Face PEFT keeps it. All but int8 must say what the bundle says,
    chip by chip. int8 is calibrated on training chips and measured on validation chips; where a group loses too much,
    the first blocks stay in floating point. What does not fit is not written. `rsft predict --engine OUT` uses an
    export of onnx or openvino.
    """
    from rsft.inference.export.export import export as write
    from rsft.inference.export.parity import TooLossy

    try:
        with progress() as report:
            made = write(
                bundle, kind, precision, out, data=data, max_loss=max_loss, overwrite=overwrite, progress=report
            )
    except TooLossy as error:
        console.print(changes_table(error.table))
        raise
    if made.changes:
        console.print(changes_table(made.changes))
    for line in made.notes:
        console.print(line, soft_wrap=True, markup=False)
    show_paths({"export": made.folder})
