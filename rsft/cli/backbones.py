"""`rsft backbones`: list the encoders that a recipe can name, and check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsft.cli.display.console import console, show_paths, two_lines
from rsft.cli.options import JsonOption, WordArgument

if TYPE_CHECKING:
    from rsft.backbones.catalog.listing import ListedEncoder

app = typer.Typer(help="List the frozen encoders that a recipe can name, and check one.", no_args_is_help=True)


@app.command("ls")
def backbones_ls(word: WordArgument = "", as_json: JsonOption = False) -> None:
    """List encoders with size, input, license and the uses that the license does not allow.

    Any other vision transformer of timm works too, by its timm name, or as timm:MODEL with a local file.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from rsft.backbones.catalog.listing import search_listing
    from rsft.utils.download import weights_dir
    from rsft.utils.licenses import describe_license

    rows = [_row(encoder) for encoder in search_listing(word)]
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(two_lines("backbone", "bands in unit, side / patch in pixels, license"), overflow="fold")
    for heading in ("params", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for row in rows:
        license_text = describe_license(row["license"], row["restrictions"])
        input_line = (
            f"{_summarize_names(row['bands'])} in {row['unit']}, {row['size']} / {row['patch']}, {license_text}"
        )
        size = f"{row['bytes'] / 1e6:,.0f}"
        table.add_row(two_lines(row["name"], input_line), f"{row['parameters'] / 1e6:.1f} M", size, row["weights"])
    console.print(table)
    show_paths({"weights": weights_dir()})


@app.command("check")
def backbones_check(
    name: Annotated[str, typer.Argument(help="Name of an encoder, from `rsft backbones ls` or timm.")],
    size: Annotated[
        int | None, typer.Option("--size", help="Side of the input in pixels (default: the native size).")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weights file (default: the file that `rsft weights ls` lists).")
    ] = None,
) -> None:
    """Load all tensors of an encoder, and show its features on fixed noise images and its speed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from rsft.backbones.check import BATCH_SIZE, check_encoder
    from rsft.backbones.registry import find_card, load_backbone
    from rsft.backbones.weights import weights_path
    from rsft.utils.licenses import describe_license, license_restrictions

    card = find_card(name)
    side = size or card.size
    backbone = load_backbone(card.name, side, weights)
    result = check_encoder(backbone, side)
    left_out = f", left out of the file: {_summarize_names(backbone.left_out)}" if backbone.left_out else ""
    lines = {
        "backbone": f"{card.name}: {card.about}",
        "weights": weights or weights_path(card),
        "license": describe_license(backbone.license, license_restrictions(backbone.license)),
        "encoder": f"SHA-256 {backbone.sha256}",
        "tensors": f"{result.tensors} of {result.tensors} loaded, {result.parameters:,} parameters{left_out}",
        "input": f"{_summarize_names(card.bands)} in {card.unit}, {side} x {side}",
        "output": f"{result.tokens} tokens x {backbone.width}",
        "speed": f"{result.speed:,.1f} images/s in batches of {BATCH_SIZE} ({result.device})",
    }
    for key, value in lines.items():
        console.print(f"{key:<9} {value}", soft_wrap=True)
    table = Table(f"features of {BATCH_SIZE} noise images", "mean", "std", "norm", box=SIMPLE_HEAD, pad_edge=False)
    for name, feature in result.features.items():
        table.add_row(name, f"{feature.mean:.5f}", f"{feature.std:.5f}", f"{feature.norm:.4f}")
    console.print(table)


def _row(encoder: ListedEncoder) -> dict[str, Any]:
    return {
        "name": encoder.name,
        "about": encoder.about,
        "parameters": encoder.parameters,
        "bytes": 4 * encoder.parameters,  # in float32
        "size": encoder.size,
        "patch": encoder.patch,
        "bands": encoder.bands,
        "unit": encoder.unit,
        "mean": encoder.mean,
        "std": encoder.std,
        "sensor": encoder.sensor,
        "license": encoder.license,
        "restrictions": encoder.restrictions,
        "weights": encoder.state,
        "path": str(encoder.path),
    }


def _summarize_names(names: tuple[str, ...]) -> str:
    return " ".join(names) if len(names) < 5 else f"{names[0]} to {names[-1]} ({len(names)})"
