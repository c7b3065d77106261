"""`rsft bundle`: show and verify bundles."""

from __future__ import annotations

import json

import typer

from rsft.cli.display.console import console
from rsft.cli.options import (
    BundleArgument,
    documented,
)
from rsft.cli.plugin_commands import ExtensibleGroup

app = typer.Typer(
    name="bundle",
    cls=ExtensibleGroup,
    help="Show, verify, sign and publish bundles.",
    no_args_is_help=True,
)


@app.command("show")
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


@app.command("verify")
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
            console.print(f"ok     {check}")
        for fault in report.faults:
            console.print(f"fault  {fault}")
        if report.sha256:
            console.print(f"sha256 {report.sha256}")
    if report.faults:
        raise typer.Exit(1)
