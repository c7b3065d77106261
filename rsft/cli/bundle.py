"""`rsft bundle`: show and verify bundles, and make one of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import console, print_json, show_paths
from rsft.cli.options import OUT, BundleArgument, documented
from rsft.cli.plugin_commands import ExtensibleGroup
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer(
    name="bundle",
    cls=ExtensibleGroup,
    help="Show, verify, sign and publish bundles.",
)


@app.command("show")
@documented
def bundle_show(bundle: BundleArgument, *, as_json: bool) -> None:
    """Show a bundle: classes, chips, backbone, licenses, method, accuracy."""
    from rsft.cli.display.bundles import show_bundle
    from rsft.models.inspection.describe import describe_bundle

    description = describe_bundle(bundle)
    if as_json:
        print_json(description)
    else:
        show_bundle(description)


@app.command("verify")
@documented
def bundle_verify(bundle: BundleArgument, sha256: str | None = None) -> None:
    """Check that all files are unchanged and that this machine can build the model.

    The exit status is 1 if not.

    Args:
        sha256: Expected SHA-256, or its first digits, such as bundle_sha256 in a table
            of predictions.
    """
    from rsft.models.inspection.verify import verify_bundle

    report = verify_bundle(bundle, sha256)
    for check in report.sound:
        console.print(f"ok     {check}")
    for fault in report.faults:
        console.print(f"fault  {fault}")
    if report.sha256:
        console.print(f"sha256 {report.sha256}")
    if report.faults:
        raise typer.Exit(1)


@app.command("from")
@documented
def bundle_from(
    checkpoint: Annotated[Path, Argument(access=Access.READ | Access.BESIDE)],
    out: Annotated[Path | None, OUT] = None,
    data: Path | None = None,
    size: Annotated[int | None, Option(min=8)] = None,
    weights: Path | None = None,
    *,
    overwrite: bool,
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
    from rsft.utils.atomic_files import check_is_free

    out = out or checkpoint.with_name("bundle")
    check_is_free(out, overwrite)
    for note in bundle_from_checkpoint(checkpoint, out, data, size, weights):
        console.print(f"note: {note}")
    show_paths({"bundle": out})
