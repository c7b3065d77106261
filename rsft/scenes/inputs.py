"""Find chips and scenes in folders, chip stores, globs and lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import pandas as pd

from rsft.data.chips.manifest import MANIFEST, read_manifest
from rsft.data.imagery import reader
from rsft.data.imagery.products.product import is_product
from rsft.data.imagery.scene_uri import SceneUri, names_servers
from rsft.errors import DataError, RequestError
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.utils.input_paths import exists, expand_path, read_path_list
from rsft.utils.operating_system import path_order, walk_files


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
    chips = set()
    stored: dict[str, Declaration] = {}
    for item in inputs:
        uri = SceneUri.parse(item)
        if not uri.is_path:
            raise RequestError(
                "chips are files or folders",
                uri,
                "to cut chips from a scene, give --at, --grid or --detect as well",
            )
        for path in expand_path(Path(item)):
            if (path / MANIFEST).is_file():  # figures beside it are not chips
                stored |= read_declarations(path)
            elif path.is_dir():
                files.update(walk_files(path))
            else:
                chips.add(str(path))
    # a link to nothing is a rejected chip
    files = {name for name in files if Path(name).is_file() or Path(name).is_symlink()}
    chips.update(x for x in files if Path(x).suffix.lower() in reader.IMAGE_SUFFIXES)
    chips.update(stored)
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
    names = sorted(chips, key=path_order)
    declarations = {name: merge(stored.get(name, UNDECLARED)) for name in names}
    return declarations, len(files - chips)


def find_scenes(inputs: Sequence[str | Path]) -> Iterator[SceneUri]:
    """Yield the scenes of paths, folders, globs and lists, in the order given.

    A list is "@path". The scenes of a folder that is no product are the products in
    it, and the rasters outside of them, by path. A name that is not a path, or does not
    exist, is returned unchanged.

    Raises:
        RequestError: a folder has no scenes; a glob matches nothing, or a STAC item
            with files on a server; or a list cannot be read.
    """
    for uri in map(SceneUri.parse, inputs):
        is_pattern = uri.is_path and not Path(uri.text).exists()
        if is_pattern and uri.text.startswith("@"):
            for line in map(SceneUri.parse, read_path_list(Path(uri.text[1:]))):
                yield from _match(line) if line.is_path else [line]
        elif is_pattern and any(sign in uri.text for sign in "*?["):
            yield from _match(uri)
        else:
            yield from _expand_folder(uri)


def _match(uri: SceneUri) -> list[SceneUri]:
    """Return the scenes that a path or a pattern stands for.

    A pattern must not start requests.
    """
    if exists(uri.text):
        return [uri]
    matches = expand_path(Path(uri.text))
    for path in matches:
        if names_servers(path):
            raise RequestError(
                "a pattern matches a STAC item with files on a server",
                path,
                "name the item itself, or choose a narrower pattern",
            )
    return [SceneUri(str(path)) for path in matches]


def _expand_folder(uri: SceneUri) -> list[SceneUri]:
    """Return the scenes in a folder; a scene as it is, also if it is a product."""
    folder = Path(uri.text)
    try:
        if not uri.is_path or not folder.is_dir() or is_product(folder):
            return [uri]
    except DataError:  # a damaged product, which is told when it is opened
        return [uri]
    scenes = _list_scenes(folder)
    if not scenes:
        hint = f"a folder must contain rasters: {' '.join(reader.RASTER_SUFFIXES)}"
        raise RequestError("no scenes", folder, hint)
    return [SceneUri(str(path)) for path in scenes]


def _list_scenes(folder: Path) -> list[Path]:
    """Return the products in a folder, and the rasters outside of them."""
    is_whole = cache(_is_product)
    scenes = set()
    for path in map(Path, walk_files(folder)):
        folders = [parent for parent in path.parents if folder in parent.parents]
        products = set(filter(is_whole, folders))
        scenes |= products
        if not products and path.suffix.lower() in reader.RASTER_SUFFIXES:
            scenes.add(path)
    return sorted(scenes)


def _is_product(folder: Path) -> bool:
    """Return whether a folder is one product.

    Of a folder with several products or a damaged one, the rasters are scenes.
    """
    try:
        return is_product(folder)
    except DataError:
        return False


def read_declarations(store: Path) -> dict[str, Declaration]:
    """Return what a chip store declares about each chip, by its path.

    Raises:
        DataError: the manifest is damaged.
    """
    table = read_manifest(store, ["path", "unit", "bands", "spacing_m"])
    declarations = {}
    for path, unit, bands, spacing in table.itertuples(index=False):
        meters = None
        if pd.notna(spacing) and spacing != "":
            meters = float(spacing)
        declarations[str(store / path)] = Declaration(
            unit, tuple(bands.split(",")), meters, is_chip=True
        )
    return declarations
