"""Take back the ships that a reviewer chose for ambiguous objects, from the file that the review page saves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.record import NOT_A_TARGET, UNSURE, parse_verdict
from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import (
    number_cells,
    read_table_file,
    text_cells,
)
from rsft.plugins.ais.matching import Pairs
from rsft.scenes.locations import Location
from rsft.types import Indices

NO_SHIP = "no AIS"
"""Choice of a reviewer who finds none of the ships right."""

_COLUMNS = ("chip", "class", "verdict", "row", "col")
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
        RequestError: the file is none of the page, is of other objects, or has one ship
            twice.
    """
    frame, _ = read_table_file(
        path, "give the corrected.csv that the page of --html saves"
    )
    missing = [name for name in _COLUMNS if name not in frame]
    if missing:
        raise RequestError(
            f"the table has no column {', '.join(missing)}",
            path,
            "give the file that the page saves",
        )
    numbers = {location.name: number for number, location in enumerate(locations)}
    choices = dict[int, int]()
    texts = (text_cells(frame, name) for name in _COLUMNS[:3])
    for name, label, verdict, *center in zip(
        *texts, *(number_cells(frame, x) for x in ("row", "col")), strict=True
    ):
        choice = parse_verdict(label, verdict)
        if choice in ("", UNSURE):
            continue
        number = numbers.get(name, -1)
        if (
            number < 0
            or not math.dist(center, (locations[number].row, locations[number].col))
            <= _TOLERANCE
        ):
            raise RequestError(
                f"{name} is not at the same place in this scene", path, _SAME
            )
        mmsi = re.match(r"\d{9}\b", choice)
        if mmsi is None and choice not in (NO_SHIP, NOT_A_TARGET):
            raise RequestError(
                f"the choice {choice} of {name} is no ship",
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
    wrong = set(chosen[chosen > 0]) - set(ships[is_chosen])
    if wrong:
        raise RequestError(
            f"the ship {min(wrong):.0f} is no candidate of its object", path, _SAME
        )
    if is_chosen.sum() > len(set(ships[is_chosen])):
        raise RequestError(
            "one ship was chosen for two objects",
            path,
            "correct the file, or review again",
        )
    is_open = np.isnan(choice) & ~np.isin(ships, chosen)
    return Pairs(*(column[is_chosen | is_open] for column in pairs))
