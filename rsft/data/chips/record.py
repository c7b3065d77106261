"""Inputs of a store build: one record per chip, and a description of the store."""

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
from rsft.utils.licenses import UNKNOWN


@dataclass(frozen=True)
class ChipRecord:
    """One chip to be stored.

    Attributes:
        name: unique within its split and class.
        split: "train", "val" or "test".
        label: name of its class.
        source_path: the image file of the chip. If `read_pixels` is given, the label file that describes the chip.
        read_pixels: returns the pixels (H, W, B) of a chip that is cut from a larger image.
        line: line in the label file, from 1.
        bands: names of the bands of the source. None takes the names in a TIFF file, or gray (1 band), or R, G, B.
        extra_columns: further columns of the manifest, such as spacing_m and mmsi. Float pixels need the column "unit",
            unless the tags of their TIFF file name it.
        image_paths: other files that `read_pixels` reads, such as the image that a label file describes.
        selected_bands: names of the bands to store, in order. If neither the record nor the file names its bands, these
            are the names of all of its bands. None stores all bands.
    """

    name: str
    split: str
    label: str
    source_path: Path
    read_pixels: Callable[[], Pixels] | None = None
    line: int = 0
    bands: tuple[str, ...] | None = None
    extra_columns: Mapping[str, Any] = field(default_factory=dict)
    image_paths: tuple[Path, ...] = ()
    selected_bands: tuple[str, ...] | None = None

    @property
    def path_stem(self) -> str:
        """Path of the chip in the store, without suffix."""
        return f"chips/{self.split}/{self.label}/{self.name}"

    def key(self) -> str:
        """Return a hash of the record and of the state of its files.

        `read_pixels` itself is not hashed: the source path and the line identify what it reads.
        """
        files = [(str(path), file_state(path)) for path in (self.source_path, *self.image_paths)]
        return _digest(
            [files, self.line, self.read_pixels is None, self.bands, self.selected_bands, dict(self.extra_columns)]
        )


@dataclass(frozen=True)
class StoreDescription:
    """Description of a store to be built, apart from its chips.

    Attributes:
        name: name of the data set.
        classes: class names in the order of the labels.
        command: command line that builds the same store again.
        groups: class names of head, medium and tail; None to group by training count.
        skipped: number of inputs that are left out on purpose, by reason. Read after the last record.
        rejected: inputs that cannot be used. Read after the last record.
        required_sources: values of the column `source` that must have a chip, each with a hint if it has none.
        license: license of the data: SPDX identifier, or a statement as in `rsft.utils.licenses`.
    """

    name: str
    classes: Sequence[str]
    command: str
    groups: Mapping[str, Sequence[str]] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: Sequence[Rejection] = ()
    required_sources: Mapping[str, str] = field(default_factory=dict)
    license: str = UNKNOWN

    def fingerprint(self) -> str:
        """Return a hash of the description; a build resumes the work of a stopped build with the same hash."""
        groups = None if self.groups is None else {group: list(names) for group, names in self.groups.items()}
        return _digest([self.name, list(self.classes), self.command, groups, __version__])[:16]


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
