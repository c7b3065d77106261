"""Refuse a table of positions whose cells are not what they seem.

Messages have three examples. A few wrong rows among right ones are left out elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.annotations.columns import MISSING
from rsft.errors import RequestError
from rsft.types import Floats

_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(\.\d{3})+")
"""A number whose points may separate thousands."""

_EXAMPLES = 3


def refuse_most(
    path: Path, is_wrong: Any, reason: str, describe: Callable[[int], str], hint: str
) -> None:
    """Raise an error if more than half of the rows of a file are wrong.

    Args:
        path: the file.
        is_wrong: which of them (N,) are.
        reason: what is wrong, after the number of rows.
        describe: returns the text of a row.
        hint: how to correct it.

    Raises:
        RequestError: most are wrong; the message has three examples.
    """
    count = np.count_nonzero(is_wrong)
    if 2 * count > len(is_wrong):
        examples = "; ".join(map(describe, np.flatnonzero(is_wrong)[:_EXAMPLES]))
        raise RequestError(
            f"{count:,} of {len(is_wrong):,} {reason}: {examples}", path, hint
        )


def check_thousands(path: Path, names: str, cells: pd.DataFrame) -> None:
    """Check that points in numbers do not separate thousands.

    Args:
        path: the file.
        names: names of the columns.
        cells: their texts.

    Raises:
        RequestError: all may.
    """
    texts = [text.strip() for text in cells.to_numpy(object).ravel() if "." in text]
    if not texts or not all(map(_THOUSANDS.fullmatch, texts)):
        return
    raise RequestError(
        f"{names} have numbers whose points may separate thousands or decimals:"
        f" {', '.join(texts[:_EXAMPLES])}",
        path,
        "write thousands without a point (1234), or decimals with another number of"
        " digits (1.2340)",
    )


def check_numbers(path: Path, names: str, cells: pd.DataFrame, numbers: Floats) -> None:
    """Check that texts are numbers.

    Args:
        path: the file.
        names: names of the columns.
        cells: their texts, indexed by line.
        numbers: the numbers (N, C); NaN for other texts.

    Raises:
        RequestError: in most rows they are not.
    """
    is_present = ~cells.map(lambda text: text.strip().lower() in MISSING).to_numpy(bool)
    is_wrong = (is_present & ~np.isfinite(numbers)).any(axis=1)

    def describe(row: int) -> str:
        texts = ", ".join(repr(text[:20]) for text in cells.iloc[row])
        return f"line {cells.index[row]}: {texts}"

    refuse_most(
        path,
        is_wrong,
        f"rows have no numbers in {names}",
        describe,
        "write decimal numbers with a point, south and west negative, without units,"
        " letters and separators of thousands",
    )


def check_order(
    path: Path,
    names: str,
    ids: Sequence[int],
    numbers: Floats,
    is_reversed: Any,
) -> None:
    """Check that boxes do not end before they begin.

    Args:
        path: the file.
        names: names of the columns.
        ids: identities of the rows.
        numbers: the boxes (N, 4) as the file has them.
        is_reversed: which of them (N,) end before they begin.

    Raises:
        RequestError: most do.
    """

    def describe(row: int) -> str:
        listed = ", ".join(f"{number:.10g}" for number in numbers[row])
        return f"row {ids[row]}: {listed}"

    refuse_most(
        path,
        is_reversed,
        f"boxes end before they begin ({names})",
        describe,
        "name the columns xmin, ymin, width and height if the last two are sizes",
    )
