"""Licenses of what a bundle was made of: the weights of its backbone, and the data that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rsft.errors import RequestError
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions

_NOT_RECORDED = f"{UNKNOWN}; the bundle does not record it"


class SourceLicense(BaseModel):
    """The license of a backbone or a data set.

    Attributes:
        source: "backbone" or "data".
        name: name of the encoder or the data set; empty if unknown.
        license: SPDX identifier, or a statement.
        restrictions: what the license does not allow: names of `rsft.utils.licenses.RESTRICTIONS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["backbone", "data"]
    name: str
    license: str
    restrictions: tuple[str, ...]

    def __str__(self) -> str:
        return describe_license(self.license, self.restrictions)


def source_license(source: Literal["backbone", "data"], name: str, text: str) -> SourceLicense:
    """Return a license with its restrictions.

    Args:
        source: "backbone" or "data".
        name: name of the encoder or the data set.
        text: SPDX identifier of the license, or a statement.
    """
    return SourceLicense(source=source, name=name, license=text, restrictions=license_restrictions(text))


def licenses_of_old_bundle(backbone: str) -> tuple[SourceLicense, ...]:
    """Return the licenses of a bundle that does not record them: that of the backbone's card, and an unknown one.

    Args:
        backbone: name of the encoder.
    """
    from rsft.backbones.registry import find_card

    try:
        text = find_card(backbone).license
    except RequestError:  # this version does not know the encoder
        text = _NOT_RECORDED
    return source_license("backbone", backbone, text), source_license("data", "", _NOT_RECORDED)


def restriction_sentence(licenses: Iterable[SourceLicense]) -> str | None:
    """Return one sentence about the uses that licenses do not allow; None if no license names one.

    Args:
        licenses: the licenses of one bundle, or of several.
    """
    stated = {entry: [name for name in entry.restrictions if name != UNKNOWN] for entry in licenses}
    parts = [f"{', '.join(names)} ({_describe_source(entry)})" for entry, names in stated.items() if names]
    return f"licenses restrict the use of this bundle: {'; '.join(parts)}" if parts else None


def unknown_sentence(licenses: Iterable[SourceLicense]) -> str | None:
    """Return one sentence about sources whose license or its terms are unknown; None if all are known.

    Args:
        licenses: the licenses of one bundle, or of several.
    """
    unknown = dict.fromkeys(_describe_source(entry) for entry in licenses if UNKNOWN in entry.restrictions)
    return f"the license or its terms are unknown: {', '.join(unknown)}" if unknown else None


def _describe_source(entry: SourceLicense) -> str:
    return f"{entry.source} {entry.name}".strip()
