"""What a build is given: the chips, one record each, and what is known beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsft import __version__
from rsft.data.imagery.image_cache import file_state
from rsft.types import Pixels, Rejection


@dataclass(frozen=True)
class Record:
    """A chip to be stored.

    Attributes:
        name: unique within its split and class.
        origin: the file that it is, or, where `cut` gives its pixels (H, W, B), the label file that describes it.
        line: of that label file, from 1.
        bands: names of its bands; by their number, gray or R, G, B, where None.
        facts: further columns of the manifest, such as spacing_m and mmsi; float pixels must name their unit here.
        images: files beside the origin that `cut` reads, such as the image that a label file describes.
    """

    name: str
    split: str
    label: str
    origin: Path
    cut: Callable[[], Pixels] | None = None
    line: int = 0
    bands: tuple[str, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[Path, ...] = ()

    @property
    def place(self) -> str:
        """Where it belongs in the store, without a suffix."""
        return f"chips/{self.split}/{self.label}/{self.name}"

    def key(self) -> str:
        """A hash of all that is said of it and of the state of its files; what `cut` does, origin and line tell."""
        files = [(str(path), file_state(path)) for path in (self.origin, *self.images)]
        return _digest([files, self.line, self.cut is None, self.bands, dict(self.facts)])


@dataclass(frozen=True)
class Plan:
    """What a build knows beside its chips.

    Attributes:
        classes: in the order of the labels.
        groups: class names of head, medium and tail; by training count where None.
        command: that makes the same store again.
        skipped: inputs left out on purpose, by reason; read when the last record has come.
        rejected: inputs that could not be used; read when the last record has come.
    """

    name: str
    classes: Sequence[str]
    command: str
    groups: Mapping[str, Sequence[str]] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: Sequence[Rejection] = ()

    def fingerprint(self) -> str:
        """Two builds with one fingerprint may go on with each other's work."""
        groups = None if self.groups is None else {group: list(names) for group, names in self.groups.items()}
        return _digest([self.name, list(self.classes), self.command, groups, __version__])[:16]


def _digest(told: list[Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
