"""Classes of ships from the types in feeds: codes and texts.

The codes are those of ITU-R M.1371-5 and of NOAA. ship_types.csv is the table: a code,
a range of codes, or a text that begins a word of the type. The first row that matches
decides. "fish carrier" is therefore fishing, and "oil/chemical tanker" a tanker.
"""

import csv
import re
from functools import cache
from importlib.resources import files

from rsft.scenes.locators import UNKNOWN

OTHER = "other"
"""Class of types that are not in the table."""


@cache
def _read_table() -> tuple[dict[int, str], dict[str, str]]:
    """Return the class of each code, and of each text in the order of the table."""
    codes: dict[int, str] = {}
    texts = {}
    table = files(__package__).joinpath("ship_types.csv").read_text("utf-8")
    for row in csv.DictReader(table.splitlines()):
        first, _, last = row["match"].partition("-")
        if first.isdecimal():
            numbers = range(int(first), int(last or first) + 1)
            codes |= dict.fromkeys(numbers, row["class"])
        else:
            texts[row["match"]] = row["class"]
    return codes, texts


@cache
def ship_class(ship_type: str) -> str:
    """Return the class of a ship type; "" is unknown.

    Example:
        >>> [ship_class(text) for text in ("82", "Oil/Chemical Tanker", "", "999")]
        ['tanker', 'tanker', 'unknown', 'other']
    """
    codes, texts = _read_table()
    words = " ".join(re.findall(r"[a-z0-9.]+", ship_type.lower()))
    if not words:
        return UNKNOWN
    if re.fullmatch(r"\d{1,4}(\.0*)?", words):
        return codes.get(int(float(words)), OTHER)
    for text, name in texts.items():
        if re.search(rf"\b{re.escape(text)}", words):
            return name
    return OTHER
