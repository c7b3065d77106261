"""Find chips of FUSAR-Ship and SRSDD with the same content, scene or vessel."""

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning

from rsft.data.chips.group_splits import find_first_connected
from rsft.data.datasets.formats.fusar_files import FUSARChip
from rsft.data.datasets.formats.srsdd_files import SRSDDShip
from rsft.data.datasets.gaofen_chips import read_gray_chip
from rsft.data.similarity import (
    find_similar,
    hash_similarity,
    make_thumbnail,
    symmetric_digest,
)
from rsft.errors import DataError

_COPY_NAME = re.compile(
    r"_(png|jpe?g|tiff?|bmp)\.rf\.\w+$|[_-](aug|rot|flip|mirror|[hv]flip)\w*$",
    re.IGNORECASE,
)
"""End of the name of an augmented copy of an image, as Roboflow and others write it."""


def read_contents(
    chips: Sequence[FUSARChip], ships: Sequence[SRSDDShip], jobs: int
) -> tuple[list[str], list[list[str]]]:
    """Hash the pixels of all chips.

    Files that share a key show one vessel or scene: they share the pixels of an image
    or chip, as copies and tiles do, or the name and all boxes, as filtered copies do,
    or they are near-duplicates, or one is an augmented copy of the other by its name.

    Returns:
        One hash per chip of FUSAR-Ship and per ship of SRSDD, or a name if the chip
        cannot be read, which the build reports; and the keys of the file of each.
    """
    ships_of = {chip.path: list[SRSDDShip]() for chip in chips}
    for ship in ships:
        ships_of.setdefault(ship.image, []).append(ship)
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
        # the filters that a thread sets are those of all
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        hashes = list(pool.map(_hash_file, ships_of, ships_of.values()))
    contents = dict[object, str]()
    keys = defaultdict(list)
    similarities = {}
    for (path, ships_in_file), (digests, similarity) in zip(
        ships_of.items(), hashes, strict=True
    ):
        contents |= zip([path, *ships_in_file], digests, strict=True)
        keys[path] = [*digests, str(path.with_name(_COPY_NAME.sub("", path.stem)))]
        if ships_in_file:
            keys[path].append(f"{path.stem} {[ship.box for ship in ships_in_file]}")
        if similarity is not None:
            similarities[path] = similarity
    paths = list(similarities)
    for pair in find_similar(
        list(similarities.values()),
        range(len(paths)),
        lambda row: make_thumbnail(read_gray_chip(paths[row])),
    ):
        for row in pair:
            keys[paths[row]].append(f"near-duplicates {pair}")
    chip_paths = [chip.path for chip in chips]
    files = [*chip_paths, *(ship.image for ship in ships)]
    samples = [*chip_paths, *ships]
    return [contents[sample] for sample in samples], [keys[file] for file in files]


def _hash_file(path: Path, ships: Sequence[SRSDDShip]) -> tuple[list[str], int | None]:
    """Return the hashes of an image and of the chips of its ships.

    Returns:
        The hashes, and the hash of near-duplicates of the image.
    """
    digests = [str(path), *(f"{ship.label_file}:{ship.line}" for ship in ships)]
    similarity = None
    with suppress(DataError):
        pixels = read_gray_chip(path)
        digests[0] = symmetric_digest(pixels)
        similarity = hash_similarity(pixels)
        for index, ship in enumerate(ships, 1):
            with suppress(ValueError):  # the ship is outside
                digests[index] = symmetric_digest(ship.crop(pixels))
    return digests, similarity


def group_by_content(groups: Sequence[str], keys: Sequence[Sequence[str]]) -> list[str]:
    """Return the group of each chip; chips that share a key get that of the first.

    Args:
        groups: the scene or vessel of each chip.
        keys: keys of the file of each chip, see `read_contents`.
    """
    numbered = []
    for index, keys_of_file in enumerate(keys):
        numbered += [(index, key) for key in (f"group {groups[index]}", *keys_of_file)]
    return [groups[index] for index in find_first_connected(len(groups), numbered)]
