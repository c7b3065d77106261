"""Find chips and scenes in folders, chip stores, globs and lists."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from rsft.data.chips.store import check_manifest_paths
from rsft.data.imagery import reader
from rsft.data.imagery.scene_uri import SceneUri, names_servers
from rsft.errors import RequestError
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.utils.operating_system import path_order, walk_files
from rsft.utils.tables import Column, check_columns, read_parquet
from rsft.utils.untrusted.documents import read_regular

if (
    TYPE_CHECKING
):  # what opens scenes imports GDAL and PROJ, 35 MB that jobs of PNG files do without
    pass

_MANIFEST = "manifest.parquet"  # in the folder of a chip store


def find_chips(
    inputs: Sequence[str | Path], declaration: Declaration = UNDECLARED
) -> tuple[dict[str, Declaration], int]:
    """Find chips in files, folders (searched recursively), chip stores, globs and lists.

    In folders, only files with the suffix of an image are chips. Files that an input
    names are always chips.

    Args:
        inputs: files, folders, chip stores, globs, or text files of paths as "@path".
        declaration: what the user declares about all chips.

    Returns:
        The paths of the chips, sorted by folder and name, each with the user's
        declaration, completed by that of its chip store; and the number of files in
        folders that do not have the suffix of an image.

    Raises:
        RequestError: an input does not exist, or no chips are found.
        DataError: the user's names of bands contradict those of a chip store.
    """
    chips: set[str] = set()
    skipped: set[str] = set()
    stored: dict[str, Declaration] = {}
    for item in inputs:
        if not SceneUri.parse(item).is_path:
            hint = "to cut chips from a scene, give --at, --grid or --detect as well"
            raise RequestError("chips are files or folders", SceneUri.parse(item), hint)
        for path in _expand(Path(item)):
            if (
                path / _MANIFEST
            ).is_file():  # other files, such as figures, are not chips
                stored |= read_declarations(path)
            elif path.is_dir():
                for file in map(Path, walk_files(path)):
                    if (
                        file.is_file() or file.is_symlink()
                    ):  # a link to nothing is a rejected chip
                        (
                            chips
                            if file.suffix.lower() in reader.IMAGE_SUFFIXES
                            else skipped
                        ).add(str(file))
            else:
                chips.add(str(path))
    chips |= stored.keys()
    if not chips:
        hint = (
            "a folder must contain image files, with a suffix of"
            f" {' '.join(sorted(reader.IMAGE_SUFFIXES))}"
        )
        raise RequestError("no chips", ", ".join(map(str, inputs)), hint)
    for name in sorted(stored, key=path_order):
        reader.check_declared_bands(declaration.bands, stored[name].bands, Path(name))
    merge = lru_cache(declaration.merge)  # chips share one object
    merged = {
        path: merge(stored.get(path, UNDECLARED))
        for path in sorted(chips, key=path_order)
    }
    return merged, len(skipped - chips)


def find_scenes(inputs: Sequence[str | Path]) -> list[SceneUri]:
    """Find scenes in paths, globs and lists ("@path"), in the order given.

    A name that is not a path, or does not exist, is returned unchanged.

    Raises:
        RequestError: a glob matches nothing, or a STAC item with files on a server; or
            a list cannot be read.
    """
    scenes: list[SceneUri] = []
    for uri in map(SceneUri.parse, inputs):
        is_pattern = uri.is_path and not Path(uri.text).exists()
        if is_pattern and uri.text.startswith("@"):
            for line in map(SceneUri.parse, _read_lines(Path(uri.text[1:]))):
                scenes += _match(line) if line.is_path else [line]
        elif is_pattern and any(sign in uri.text for sign in "*?["):
            scenes += _match(uri)
        else:
            scenes.append(uri)
    return scenes


def _match(uri: SceneUri) -> list[SceneUri]:
    """Return the scenes that a path or a pattern stands for; a pattern must not start requests."""
    matches = _expand(Path(uri.text))
    for path in matches:
        if str(path) != uri.text and names_servers(path):
            raise RequestError(
                "a pattern matches a STAC item with files on a server",
                path,
                "name the item itself, or choose a narrower pattern",
            )
    return [SceneUri(str(path)) for path in matches]


def read_declarations(store: Path) -> dict[str, Declaration]:
    """Return what the manifest of a chip store declares about each chip, by its path.

    Raises:
        RequestError: the manifest cannot be read.
        DataError: a path in it leaves the store.
    """
    try:
        columns = read_parquet(
            store / _MANIFEST, ["path", "unit", "bands", "spacing_m"]
        )
        table = columns.replace_schema_metadata().to_pandas()
        check_columns(
            table,
            [
                Column("unit"),
                Column("bands"),
                Column("spacing_m", "number", optional=True),
            ],
        )
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RequestError(
            f"the manifest cannot be read: {error}",
            store / _MANIFEST,
            "make it with `rsft prepare`",
        ) from error
    check_manifest_paths(table["path"], store / _MANIFEST)
    spacings = [
        None if pd.isna(meters) or meters == "" else float(meters)
        for meters in table["spacing_m"]
    ]
    rows = zip(table["path"], table["unit"], table["bands"], spacings, strict=True)
    return {
        str(store / path): Declaration(
            unit, tuple(bands.split(",")), meters, is_chip=True
        )
        for path, unit, bands, meters in rows
    }


def _expand(item: Path) -> list[Path]:
    if item.exists():
        return [item]
    if str(item).startswith("@"):
        return [
            path
            for line in _read_lines(Path(str(item)[1:]))
            for path in _expand(Path(line))
        ]
    start = Path(item.anchor)
    try:
        matches = list(start.glob(str(item.relative_to(start))))
    except ValueError:  # not a valid pattern
        matches = []
    if not matches:
        raise RequestError(
            "no such file or folder, and no match as a glob", item, "check the path"
        )
    return sorted(matches)


def _read_lines(path: Path) -> list[str]:
    """Read a list of paths, one per line, without empty lines and lines that begin with #."""
    try:
        lines = [line.strip() for line in read_regular(path).decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            "the list cannot be read", path, "give a text file with one path per line"
        ) from error
    return [line for line in lines if line and line[0] != "#"]
