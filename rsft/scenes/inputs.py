"""Find chips and scenes in folders, chip stores, globs and lists."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

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

_MANIFEST = "manifest.parquet"  # in the folder of a chip store


def find_chips(
    inputs: Sequence[str | Path], declaration: Declaration = UNDECLARED
) -> tuple[dict[str, Declaration], int]:
    """Find chips in files, folders, chip stores, globs and lists.

    Folders are searched recursively for files with the suffix of an image. Files that
    an input names are always chips.

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
    files: set[str] = set()  # in folders
    chips: set[str] = set()
    stored: dict[str, Declaration] = {}
    for item in inputs:
        uri = SceneUri.parse(item)
        if not uri.is_path:
            hint = "to cut chips from a scene, give --at, --grid or --detect as well"
            raise RequestError("chips are files or folders", uri, hint)
        for path in _expand(Path(item)):
            if (path / _MANIFEST).is_file():  # figures beside it are not chips
                stored |= read_declarations(path)
            elif path.is_dir():
                files.update(walk_files(path))
            else:
                chips.add(str(path))
    # a link to nothing is a rejected chip
    files = {name for name in files if Path(name).is_file() or Path(name).is_symlink()}
    images = {
        name for name in files if Path(name).suffix.lower() in reader.IMAGE_SUFFIXES
    }
    chips |= images | stored.keys()
    if not chips:
        suffixes = " ".join(sorted(reader.IMAGE_SUFFIXES))
        raise RequestError(
            "no chips",
            ", ".join(map(str, inputs)),
            f"a folder must contain image files, with a suffix of {suffixes}",
        )
    for name in sorted(stored, key=path_order):
        reader.check_declared_bands(declaration.bands, stored[name].bands, Path(name))
    merge = lru_cache(declaration.merge)  # chips share one object
    declarations = {}
    for name in sorted(chips, key=path_order):
        declarations[name] = merge(stored.get(name, UNDECLARED))
    return declarations, len(files - chips)


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
    """Return the scenes that a path or a pattern stands for.

    A pattern must not start requests.
    """
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
    """Return what a chip store declares about each chip, by its path.

    Raises:
        RequestError: the manifest cannot be read.
        DataError: a path in it leaves the store.
    """
    try:
        names = ["path", "unit", "bands", "spacing_m"]
        columns = read_parquet(store / _MANIFEST, names)
        table = columns.replace_schema_metadata().to_pandas()
        spacing = Column("spacing_m", "number", optional=True)
        check_columns(table, [Column("unit"), Column("bands"), spacing])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RequestError(
            f"the manifest cannot be read: {error}",
            store / _MANIFEST,
            "make it with `rsft prepare`",
        ) from error
    check_manifest_paths(table["path"], store / _MANIFEST)
    declarations = {}
    for row in table.itertuples():
        meters = None
        if not (pd.isna(row.spacing_m) or row.spacing_m == ""):
            meters = float(row.spacing_m)
        bands = tuple(row.bands.split(","))
        declared = Declaration(row.unit, bands, meters, is_chip=True)
        declarations[str(store / row.path)] = declared
    return declarations


def _expand(item: Path) -> list[Path]:
    """Return the paths that a path, a list or a pattern stands for."""
    if item.exists():
        return [item]
    if str(item).startswith("@"):
        paths = []
        for line in _read_lines(Path(str(item)[1:])):
            paths += _expand(Path(line))
        return paths
    start = Path(item.anchor)
    matches: list[Path] = []
    with suppress(ValueError):  # not a valid pattern
        matches = sorted(start.glob(str(item.relative_to(start))))
    if not matches:
        raise RequestError(
            "no such file or folder, and no match as a glob", item, "check the path"
        )
    return matches


def _read_lines(path: Path) -> list[str]:
    """Read a list of paths, one per line; empty lines and comments are left out."""
    try:
        lines = [line.strip() for line in read_regular(path).decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            "the list cannot be read", path, "give a text file with one path per line"
        ) from error
    return [line for line in lines if line and line[0] != "#"]
