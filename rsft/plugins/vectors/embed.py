"""`rsft embed`: write the vectors of an encoder."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, print_lines, show_paths
from rsft.cli.options import OUT, check_bundle, documented
from rsft.scenes.options import Declaration
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer(add_completion=False)


@app.command("embed")
@documented
def embed(
    inputs: Annotated[list[str], Argument(metavar="CHIPS...")],
    out: Annotated[Path, OUT],
    declaration: Declaration,
    backbone: str | None = None,
    bundle: Annotated[
        Path | None,
        Option("Bundle or run whose encoder is taken.", access=Access.BUNDLE),
    ] = None,
    input_size: Annotated[int | None, Option(min=8)] = None,
    device: str = "auto",
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write one vector per chip, the features of an encoder, as GeoParquet.

    The table has the geometry of each chip, where its file has a georeference, and
    name and hash of the model. For a chip store, it has split and class as well, and
    `rsft prepare vectors` takes it.

    Cut the chips of a scene first; they keep their georeference:

    rsft detect SCENE -o objects.gpkg --chips chips

    rsft embed chips -o vectors.parquet

    Args:
        inputs: Chips: files, folders, chip stores, globs, @list.
        out: Table to write, .parquet.
        backbone: Name of an encoder, see `rsft backbones ls`; by default the embedded
            one, vit_tiny_patch8_64.simship.
        input_size: Side of the input of --backbone in pixels (default: its native
            size).
        device: Device: auto, cpu or cuda.
    """
    from rsft.cli.display.results import report_progress
    from rsft.inference.writers.tables import check_output_file
    from rsft.plugins.vectors.embed_job import embed_chips, write_vectors

    check_output_file(out, (".parquet",), overwrite)
    if bundle is not None:
        check_bundle(bundle)
    with report_progress(as_json) as report:
        report(0, 0, "loading the encoder")
        result = embed_chips(
            inputs, declaration, bundle, backbone, device, input_size, report
        )
        write_vectors(result, out)
    chips = len(result.table)
    metadata = result.metadata
    if as_json:
        row = {
            "vectors": str(out),
            "chips": chips,
            "rejected": len(result.rejections),
            "notes": list(result.notes),
            **metadata,
        }
        print(json.dumps(row))
        return
    console.print(
        f"{chips:,} chips, vectors of {metadata['dimensions']:,} numbers"
        f" from {metadata['model']}"
    )
    if result.rejections:
        rejected = out.with_suffix(".rejected.csv")
        console.print(f"rejected: {len(result.rejections):,}, listed in {rejected}")
    print_lines(result.notes)
    show_paths({"vectors": out})
