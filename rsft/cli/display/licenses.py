"""Warn about licenses that restrict the use of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsft.cli.display.console import error_console


def warn_about_licenses(bundles: Sequence[Path], unknown: bool = False) -> None:
    """Print one line to stderr if a license restricts the use of the bundles; nothing otherwise.

    Args:
        bundles: folders as in `find_bundle`.
        unknown: also print one line if a license is unknown.

    Raises:
        RequestError: a folder contains no bundle.
        WeightsError: the index of a bundle is damaged or was edited.
    """
    from rsft.models.bundle.bundle import read_licenses
    from rsft.models.bundle.licenses import restriction_sentence, unknown_sentence

    licenses = list(dict.fromkeys(entry for bundle in bundles for entry in read_licenses(bundle)))
    lines = {"warning": restriction_sentence(licenses), "note": unknown_sentence(licenses) if unknown else None}
    for kind, sentence in lines.items():
        if sentence:
            error_console.print(f"{kind}: {sentence}; see `rsft bundle show`", soft_wrap=True)
