"""Find input files: chips in folders and chip stores, and files that globs and lists name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips.store import check_manifest_paths
from rsft.data.imagery.band_names import check_declared_bands
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.utils.tables import Column, check_columns
from rsft.utils.untrusted.documents import read_regular

_MANIFEST = "manifest.parquet"  # in the folder of a chip store


@dataclass(frozen=True)
class Declaration:
    """Properties of the pixels of a file, as the user or a chip store declares them; None if not declared.

    Attributes:
        unit: unit of the pixels, such as "sigma0".
        bands: names of the bands, in the order of the file.
        spacing_m: pixel spacing in meters.
    """

    unit: str | None = None
    bands: tuple[str, ...] | None = None
    spacing_m: float | None = None

    def merge(self, other: Declaration) -> Declaration:
        """Return a copy whose missing fields are taken from another declaration.

        Args:
            other: the other declaration.

        Returns:
            The merged declaration.
        """
        return Declaration(self.unit or other.unit, self.bands or other.bands, self.spacing_m or other.spacing_m)


UNDECLARED = Declaration()
"""A declaration without any property."""


class ChipListing(NamedTuple):
    """The chips among the inputs of a job.

    Attributes:
        chips: paths of the chips, sorted and without duplicates.
        skipped: number of files in folders that do not have the suffix of an image.
        declarations: declarations by chip, for chips of chip stores.
    """

    chips: list[Path]
    skipped: int
    declarations: dict[Path, Declaration]

    def declare(self, declaration: Declaration) -> dict[Path, Declaration]:
        """Return the declaration of every chip: the user's, completed by that of its chip store.

        Args:
            declaration: the user's declaration.

        Returns:
            One declaration per chip, in the order of `chips`.

        Raises:
            DataError: the user's names of bands contradict those of a chip store.
        """
        merged = {}
        for path in self.chips:
            stored = self.declarations.get(path, UNDECLARED)
            check_declared_bands(declaration.bands, stored.bands, path)
            merged[path] = declaration.merge(stored)
        return merged


def find_chips(inputs: Sequence[str | Path]) -> ChipListing:
    """Find chips in files, folders (searched recursively), chip stores, globs and lists.

    In folders, only files with the suffix of an image are chips. Files that an input names are always chips.

    Args:
        inputs: files, folders, chip stores, globs, or text files of paths as "@path".

    Returns:
        The chips.

    Raises:
        RequestError: an input does not exist, or no chips are found.
    """
    chips: set[Path] = set()
    skipped: set[Path] = set()
    declarations: dict[Path, Declaration] = {}
    for item in inputs:
        if not SceneUri.parse(item).is_path:
            hint = "to cut chips from a scene, give --at, --grid or --detect as well"
            raise RequestError("chips are files or folders", SceneUri.parse(item), hint)
        for path in _expand(Path(item)):
            if path.is_dir():
                if (path / _MANIFEST).is_file():  # other files, such as figures, are not chips
                    stored = read_declarations(path)
                    declarations |= stored
                    chips |= stored.keys()
                    continue
                files = {file for file in path.rglob("*") if file.is_file()}
                images = {file for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
                chips |= images
                skipped |= files - images
            else:
                chips.add(path)
    if not chips:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise RequestError(
            "no chips", ", ".join(map(str, inputs)), f"a folder must contain image files, with a suffix of {suffixes}"
        )
    return ChipListing(sorted(chips), len(skipped - chips), declarations)


def find_scenes(inputs: Sequence[str | Path]) -> list[SceneUri]:
    """Find scenes in paths, globs and lists. A name that is not a path, or does not exist, is returned unchanged.

    Args:
        inputs: names of scenes, globs, or text files of names as "@path".

    Returns:
        Scenes in the order given.

    Raises:
        RequestError: a glob matches nothing, or a list cannot be read.
    """
    return [uri for item in inputs for uri in _expand_scene(item)]


def _expand_scene(item: str | Path) -> list[SceneUri]:
    uri = SceneUri.parse(item)
    path = Path(uri.text)
    if not uri.is_path or not _is_pattern(path):
        return [uri]
    if not uri.text.startswith("@"):
        return [SceneUri(str(match)) for match in _expand(path)]
    lines = [SceneUri.parse(line) for line in _read_lines(Path(uri.text[1:]))]
    return [
        found for line in lines for found in (map(SceneUri.parse, _expand(Path(line.text))) if line.is_path else [line])
    ]


def _is_pattern(item: Path) -> bool:
    return not item.exists() and (str(item).startswith("@") or any(sign in str(item) for sign in "*?["))


def read_declarations(store: Path) -> dict[Path, Declaration]:
    """Read what the manifest of a chip store declares.

    Args:
        store: folder of the store.

    Returns:
        The declaration of every chip, by its path.

    Raises:
        RequestError: the manifest cannot be read.
        DataError: a path in it leaves the store.
    """
    try:
        columns = pq.read_table(store / _MANIFEST, columns=["path", "unit", "bands", "spacing_m"])
        table = columns.to_pandas(ignore_metadata=True)
        check_columns(table, [Column("unit"), Column("bands"), Column("spacing_m", "number", optional=True)])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RequestError(
            f"the manifest cannot be read: {error}", store / _MANIFEST, "make it with `rsft prepare`"
        ) from error
    check_manifest_paths(table["path"], store / _MANIFEST)
    spacings = [None if pd.isna(meters) or meters == "" else float(meters) for meters in table["spacing_m"]]
    rows = zip(table["path"], table["unit"], table["bands"], spacings, strict=True)
    return {store / path: Declaration(unit, tuple(bands.split(",")), meters) for path, unit, bands, meters in rows}


def _expand(item: Path) -> list[Path]:
    if item.exists():
        return [item]
    if str(item).startswith("@"):
        return [path for line in _read_lines(Path(str(item)[1:])) for path in _expand(Path(line))]
    start = Path(item.anchor)
    try:
        matches = list(start.glob(str(item.relative_to(start))))
    except ValueError:  # not a valid pattern
        matches = []
    if not matches:
        raise RequestError("no such file or folder, and no match as a glob", item, "check the path")
    return sorted(matches)


def _read_lines(path: Path) -> list[str]:
    """Read a list of paths, one per line, without empty lines and lines that begin with #."""
    try:
        lines = [line.strip() for line in read_regular(path).decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError("the list cannot be read", path, "give a text file with one path per line") from error
    return [line for line in lines if line and line[0] != "#"]
