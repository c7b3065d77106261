"""`rsft bundle`: show, verify, compare and import bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, show_paths
from rsft.cli.options import (
    OUT,
    BundleArgument,
    FencedCommand,
    check_new_file,
    documented,
)
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer(
    name="bundle",
    cls=ExtensibleGroup,
    help="Show, verify, compare, sign and publish bundles.",
    no_args_is_help=True,
)


@app.command("show", cls=FencedCommand)
@documented
def bundle_show(bundle: BundleArgument, as_json: bool = False) -> None:
    """Show a bundle: classes, chips, backbone, licenses, method, accuracy."""
    from rsft.cli.display.bundles import show_bundle
    from rsft.models.inspection.describe import describe_bundle

    description = describe_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(description, indent=2))
    else:
        show_bundle(description)


@app.command("verify", cls=FencedCommand)
@documented
def bundle_verify(
    bundle: BundleArgument,
    sha256: str | None = None,
    as_json: bool = False,
) -> None:
    """Check that all files are unchanged and that this machine can build the model.

    The exit status is 1 if not.

    Args:
        sha256: Expected SHA-256, or its first digits, such as bundle_sha256 in a table
            of predictions.
    """
    from rsft.models.inspection.verify import verify_bundle

    report = verify_bundle(bundle, sha256)
    if as_json:
        typer.echo(json.dumps(vars(report) | {"folder": str(report.folder)}, indent=2))
    else:
        for check in report.sound:
            console.print(f"ok     {check}", soft_wrap=True)
        for fault in report.faults:
            console.print(f"fault  {fault}", soft_wrap=True)
        if report.sha256:
            console.print(f"sha256 {report.sha256}", soft_wrap=True)
    if report.faults:
        raise typer.Exit(1)


@app.command("import", cls=FencedCommand)
@documented
def bundle_import(
    adapter: Annotated[Path, Argument()],
    out: Annotated[Path, OUT],
    classes: Annotated[tuple[str, ...], Option(metavar="NAME,NAME")],
    size: Annotated[int, Option(min=1)],
    backbone: str | None = None,
    weights: Path | None = None,
    bands: tuple[str, ...] = ("R", "G", "B"),
    pool: str = "token",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a LoRA adapter of Hugging Face PEFT, with its linear head.

    The adapter belongs to a network of timm. The bundle takes images of bytes and gives
    the logits of the adapter. What it cannot hold is refused.

    Args:
        adapter: Folder of save_pretrained: adapter_config.json,
            adapter_model.safetensors, and the head.
        out: Folder of the bundle.
        classes: Names of the classes in the order of the logits, with commas.
        size: Side of the network's input, in pixels.
        backbone: Encoder (default: the base that the adapter names, if it is one of
            timm).
        weights: File of the encoder's weights (default: the published ones).
        bands: Names of the bands of an image, with commas; one band is repeated for all
            inputs.
        pool: Feature: token (class token) or avg (mean of the patch tokens or of the
            feature map).
        mean: Mean of each input in the training, 0-1, with commas (default: that of the
            encoder).
        std: Standard deviation of each input in the training, 0-1, with commas
            (default: that of the encoder).
    """
    from rsft.models.bundle.adapter_import import ImportedInput, import_adapter

    inputs = ImportedInput(size, bands, mean, std, pool)
    bundle = import_adapter(
        adapter,
        out,
        classes,
        inputs,
        backbone=backbone,
        weights=weights,
        overwrite=overwrite,
    )
    contract = bundle.contract
    method = bundle.recipe.peft.settings
    positions = ", ".join(method["positions"])
    for line in (
        f"LoRA at {positions} of {len(method['blocks'])} blocks, and the head",
        f"images of bytes are normalized with mean {contract.mean} and std"
        f" {contract.std}",
        "probabilities are not calibrated, and the numbers of training chips are"
        " unknown",
    ):
        console.print(line, soft_wrap=True)
    show_paths({"bundle": out})


@app.command("from", cls=FencedCommand)
@documented
def bundle_from(
    checkpoint: Annotated[Path, Argument(access=Access.READ | Access.BESIDE)],
    out: Annotated[Path | None, OUT] = None,
    data: Path | None = None,
    size: Annotated[int | None, Option(min=8)] = None,
    weights: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a checkpoint of the task `rsft.torchgeo.PEFTClassificationTask`.

    Args:
        checkpoint: File .ckpt of Lightning's trainer.
        out: Folder of the bundle (default: bundle/ beside the checkpoint).
        data: Chip store of the training data, if the task was trained with a data
            module of TorchGeo.
        size: Side of the network's input in pixels, for a network of any input size
            with --data.
        weights: File of the frozen weights, if the task read them from a file.
    """
    from rsft.torchgeo import bundle_from_checkpoint

    out = out or checkpoint.with_name("bundle")
    check_new_file(out, overwrite)
    for note in bundle_from_checkpoint(checkpoint, out, data, size, weights):
        console.print(f"note: {note}", soft_wrap=True)
    show_paths({"bundle": out})


@app.command("diff", cls=FencedCommand)
@documented
def bundle_diff(
    first: BundleArgument,
    second: Annotated[Path, Argument(access=Access.BUNDLE)],
    as_json: bool = False,
) -> None:
    """Compare two bundles: recipe, classes, contract, licenses, accuracy and tensors.

    Args:
        second: Bundle to compare with.
    """
    from rsft.cli.display.bundles import show_differences
    from rsft.models.inspection.describe import diff_bundles

    differences = diff_bundles(first, second)
    if as_json:
        typer.echo(json.dumps(differences, indent=2))
    else:
        show_differences(differences, (str(first), str(second)))
