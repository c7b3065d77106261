"""Commands that sign bundles and exports, and verify their signatures."""

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

from rsft.cli.display.console import console, print_json, show_paths
from rsft.cli.options import documented
from rsft.utils.command_options import Access, Argument, Option


@documented
def bundle_sign(
    bundle: Annotated[Path, Argument(access=Access.BUNDLE | Access.BESIDE)],
    key: Annotated[Path, Option()],
) -> None:
    """Sign a bundle or an export, so that others can verify who made it.

    Needs no network.

    Args:
        bundle: Folder of a bundle or an export, run folder, or runs/<recipe> for its
            newest run.
        key: Private key, a PEM file (P-256, P-384 or P-521).
    """
    from rsft.plugins.signing.signature import sign_bundle

    show_paths({"signature": sign_bundle(bundle, key)})


@documented
def bundle_verify_signature(
    bundles: Annotated[list[Path], Argument(metavar="BUNDLE...", access=Access.BUNDLE)],
    key: Annotated[Path, Option()],
    not_before: Annotated[date | None, Option(metavar="DATE")] = None,
    *,
    as_json: bool,
) -> None:
    """Check that a key's owner signed bundles and exports, and that no file changed.

    The exit status is 1 if not.

    Args:
        bundles: Folders as for `rsft bundle sign`.
        key: Public key of the owner, a PEM file.
        not_before: Earliest day of a signature (UTC), such as 2026-11-01.
    """
    from rsft.plugins.signing.signature import check_signature

    day = None
    if not_before is not None:
        day = datetime.combine(not_before, time(), UTC)
    signatures = [check_signature(bundle, key, day) for bundle in bundles]
    if as_json:
        print_json(signatures)
        return
    for signature in signatures:
        for name, value in signature.items():
            console.print(f"{name:<16} {value}")
