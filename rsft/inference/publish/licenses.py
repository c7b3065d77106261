"""State the licenses of a bundle in the terms of STAC and of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsft.models.bundle.manifest import SourceLicense
from rsft.utils.licenses import UNKNOWN

_IDENTIFIER = re.compile(r"(?i:mit|apache-2\.0|bsd-[23]-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-4\.0)")
"""Licenses that SPDX and the Hub know by the same identifier, apart from capitals."""

_OTHER = "other"


def spdx_license(licenses: Sequence[SourceLicense]) -> str | None:
    """Return the license of a bundle for STAC.

    Args:
        licenses: the licenses of backbone and data.

    Returns:
        The SPDX identifier, if backbone and data have the same; "other" if they differ or have another license; None
        if one of them is unknown.
    """
    if not licenses or any(UNKNOWN in entry.restrictions for entry in licenses):
        return None
    first, *others = {entry.license for entry in licenses}
    return first if not others and _IDENTIFIER.fullmatch(first) else _OTHER


def hub_license(licenses: Sequence[SourceLicense]) -> str:
    """Return the license of a bundle in the words of the Hugging Face Hub: an identifier, "other" or "unknown".

    Args:
        licenses: the licenses of backbone and data.

    Example:
        >>> hub_license([SourceLicense(source="data", name="ships", license="MIT", restrictions=())])
        'mit'
    """
    return (spdx_license(licenses) or UNKNOWN).lower()
