"""Encoders that rsft knows by name and does not load: why, and what to use instead.

The table is unusable.json. This module imports no torch.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rsft.errors import RequestError
from rsft.types import Names
from rsft.utils.licenses import license_restrictions

_TABLE = Path(__file__).parent / "unusable.json"


@dataclass(frozen=True, kw_only=True)
class UnusableEncoder:
    """An encoder that rsft knows by name and does not load.

    Attributes:
        pattern: regular expression that its names contain, in lower case.
        about: one line with architecture and training data.
        sensor: source of the images in pre-training.
        license: license of the weights, as in `EncoderInfo`.
        reason: why rsft does not load it.
        instead: name of the nearest encoder that rsft loads.
        source: web page with the authors' code.
    """

    name: str
    pattern: str
    about: str
    sensor: str
    license: str
    reason: str
    instead: str
    source: str

    @property
    def restrictions(self) -> Names:
        """What the license of the weights does not allow."""
        return license_restrictions(self.license)


@cache
def unusable_encoders() -> tuple[UnusableEncoder, ...]:
    """Return the encoders that rsft knows by name and does not load."""
    return tuple(
        UnusableEncoder(**entry) for entry in json.loads(_TABLE.read_text("utf-8"))
    )


def search_unusable(word: str) -> list[UnusableEncoder]:
    """Return the encoders of `unusable_encoders` that contain a word, in any case.

    It may stand in their names, description, sensor or license.
    """
    matches = []
    for encoder in unusable_encoders():
        words = (
            encoder.name,
            encoder.about,
            encoder.sensor,
            encoder.license,
            *encoder.restrictions,
        )
        is_name = re.search(encoder.pattern, word.lower())
        if is_name or word.lower() in " ".join(words).lower():
            matches.append(encoder)
    return matches


def check_usable(name: str) -> None:
    """Raise an error if `name` is a name of an encoder that rsft does not load.

    Raises:
        RequestError: the message has the reason, and the hint another encoder.
    """
    for encoder in unusable_encoders():
        if re.search(encoder.pattern, name.lower()):
            raise RequestError(
                f"rsft knows {encoder.name} but cannot use it: {encoder.reason}",
                "backbone.name",
                f"use {encoder.instead} instead",
            )
