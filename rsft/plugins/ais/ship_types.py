"""Classes of ships from the ship types of AIS feeds: codes of ITU-R M.1371-5, codes of NOAA, and texts.

ship_types.csv is the table: a code, a range of codes, or a text that begins a word of
the type. The first row that matches decides. "fish carrier" is therefore fishing, and
"oil/chemical tanker" a tanker.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files

UNKNOWN = "unknown"
"""Class of ships that send no type, or a reserved one."""

OTHER = "other"
"""Class of types that are not in the table."""


@cache
def _table() -> tuple[dict[int, str], tuple[tuple[re.Pattern[str], str], ...]]:
    codes: dict[int, str] = {}
    texts = []
    for row in csv.DictReader(
        files(__package__).joinpath("ship_types.csv").read_text("utf-8").splitlines()
    ):
        first, _, last = row["match"].partition("-")
        if first.isdecimal():
            codes |= dict.fromkeys(
                range(int(first), int(last or first) + 1), row["class"]
            )
        else:
            texts.append((re.compile(rf"\b{re.escape(row['match'])}"), row["class"]))
    return codes, tuple(texts)


@cache
def ship_class(ship_type: str) -> str:
    """Return the class of a ship type, such as "70", "70.0", "Cargo" or "Cargo - Hazard A (Major)"; "" is unknown.

    Example:
        >>> [ship_class(text) for text in ("82", "Towing long/wide", "Oil/Chemical Tanker", "", "999")]
        ['tanker', 'tug', 'tanker', 'unknown', 'other']
    """
    codes, texts = _table()
    words = " ".join(re.findall(r"[a-z0-9.]+", ship_type.lower()))
    if re.fullmatch(r"\d{1,4}(\.0*)?", words):
        return codes.get(int(float(words)), OTHER)
    return next(
        (name for pattern, name in texts if pattern.search(words)),
        OTHER if words else UNKNOWN,
    )
