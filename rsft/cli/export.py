"""`rsft export`: write bundles for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display import console as display
from rsft.cli.display.console import console, progress, show_paths
from rsft.cli.display.evaluation import changes_table
from rsft.cli.options import OUT, BundleArgument, UnitOption, documented
from rsft.inference.engines.base import FORMATS
from rsft.utils.command_options import Option

app = typer.Typer()


@app.command()
@documented
def export(
    bundle: BundleArgument,
    format_name: Annotated[
        str,
        Option(f"Format to write: {', '.join(FORMATS)}.", "--format", metavar="FORMAT"),
    ],
    precision: str = "fp32",
    out: Annotated[Path | None, OUT] = None,
    data: Path | None = None,
    max_loss: Annotated[float, Option(min=0)] = 0.5,
    whole: bool = False,
    unit: UnitOption = None,
    size: Annotated[int | None, Option(min=1)] = None,
    *,
    overwrite: bool,
) -> None:
    """Write a bundle as files for another program, with classes, contract and hash.

    onnx, openvino and torch-export files run without rsft. timm and peft folders are
    for these libraries and for transformers: the merged network with its head, or the
    LoRA with its head. mlflow is the whole pipeline as a model that MLflow serves.

    Every export is loaded again and compared with PyTorch, int8 by its accuracy and
    others by their outputs. An export that differs too much is deleted.

    If int8 loses too much accuracy in a group of classes, the first blocks stay in
    floating point.

    `rsft predict --engine OUT` classifies with an export that an engine can run,
    without PyTorch.

    Args:
        precision: Precision: fp32, bf16 or int8. Not every format supports all of them.
        out: Folder to write (default: exports/FORMAT-PRECISION beside the bundle).
        data: Chip store that the bundle was trained on (default: data.root of its
            recipe). Whole pipelines are compared on noise.
        max_loss: Percentage points of accuracy that int8 may lose, overall and in each
            group.
        whole: Write the whole pipeline, from the pixels of a chip to calibrated
            probabilities: onnx, and always mlflow.
        unit: Unit of the pixels, for a whole pipeline (default: the first one of the
            bundle).
        size: Chip size in pixels, for a whole pipeline (default: the bundle's center
            crop).
    """
    with display.show_waiting(display.IMPORTS):
        from rsft.inference.export.export import export_bundle

    display.warn_about_licenses(bundle)
    with progress() as report:
        result = export_bundle(
            bundle,
            format_name,
            precision,
            out,
            data=data,
            max_loss=max_loss,
            whole=whole,
            unit=unit,
            side=size,
            overwrite=overwrite,
            progress=report,
        )
    if result.changes:
        console.print(changes_table(result.changes))
    for line in result.notes:
        console.print(line)
    show_paths({"export": result.folder})
