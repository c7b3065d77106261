"""Take back the ships that a reviewer chose for ambiguous objects."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.corrections.corrected_table import read_corrected_table
from rsft.data.chips.record import NOT_A_TARGET, UNSURE
from rsft.errors import RequestError
from rsft.plugins.ais.matching import Pairs
from rsft.scenes.locations import Location
from rsft.types import Indices

NO_SHIP = "no AIS"
"""Choice of a reviewer who finds none of the ships right."""

_TOLERANCE = 0.5  # pixels
_SAME = (
    "give the scene, messages and options with which the page was written, or review"
    " again"
)


def read_choices(path: Path, locations: Sequence[Location]) -> dict[int, int]:
    """Read the choices of a reviewer.

    Args:
        path: corrected.csv, which the page saves.
        locations: the objects.

    Returns:
        The MMSI by the number of the object; 0 if it is none of the ships. Objects
        without a choice are missing.

    Raises:
        RequestError: the file is none of the page, or is of other objects.
    """
    numbers = {location.name: number for number, location in enumerate(locations)}
    choices = {}
    for row in read_corrected_table(path).rows:
        if row.verdict in ("", UNSURE):
            continue
        number = numbers.get(row.chip, -1)
        center = (locations[number].row, locations[number].col)
        if number < 0 or not math.dist(center, (row.row, row.col)) <= _TOLERANCE:
            name = row.chip or "a row without a chip"
            raise RequestError(
                f"{name} is not at the same place in this scene", path, _SAME
            )
        mmsi = re.match(r"\d{9}\b", row.verdict)
        if mmsi is None and row.verdict not in (NO_SHIP, NOT_A_TARGET):
            raise RequestError(
                f"the choice {row.verdict} of {row.chip} is no ship",
                path,
                f"begin it with an MMSI, or {NO_SHIP}",
            )
        choices[number] = int(mmsi[0]) if mmsi else 0
    return choices


def keep_choices(
    pairs: Pairs, mmsi: Indices, choices: Mapping[int, int], path: Path
) -> Pairs:
    """Keep the chosen pairs, and those pairs of other objects and other ships.

    Args:
        pairs: the possible pairs.
        mmsi: MMSI of each ship.
        choices: see `read_choices`.
        path: their file.

    Raises:
        RequestError: a chosen pair is not possible, or one ship was chosen twice.
    """
    ships = mmsi[pairs.ships]
    chosen = pd.Series(choices, dtype=float)
    choice = chosen.reindex(pairs.objects).to_numpy()
    is_chosen = choice == ships
    impossible = set(chosen[chosen > 0]) - set(ships[is_chosen])
    if impossible:
        message = f"the ship {min(impossible):.0f} is no candidate of its object"
        raise RequestError(message, path, _SAME)
    if is_chosen.sum() > len(set(ships[is_chosen])):
        message = "one ship was chosen for two objects"
        raise RequestError(message, path, "correct the file, or review again")
    is_open = np.isnan(choice) & ~np.isin(ships, chosen)
    return Pairs(*(column[is_chosen | is_open] for column in pairs))
