"""Parse the times of AIS messages in any of the forms that feeds have."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa

from rsft.types import Floats

_SECONDS = re.compile(r"\d{9,}(\.\d*)?")
_LARGEST_TIMES = (1e11, 1e14, 1e17)
"""Larger numbers are not seconds, milliseconds or microseconds, but thousandths."""
_COMPACT = re.compile(r"(19|20)\d{12}")  # 20260131235959
_DATE_FIRST = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}")  # day or month before year
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_UTC_NOTE = "times have no zone, and are read as UTC"


class MessageTimes:
    """How the times of a file are written.

    Attributes:
        notes: what was decided.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._date_format = ""

    def parse(self, array: pa.Array) -> Floats:
        """Return times (N,) in seconds since 1970, UTC; NaN if they cannot be read."""
        if pa.types.is_timestamp(array.type):
            if array.type.tz is None:
                self._note(_UTC_NOTE)
            timestamps = array.cast(pa.timestamp("us", array.type.tz))
            microseconds = timestamps.cast(pa.int64()).to_pandas()
            floats = microseconds.to_numpy(np.float64, na_value=np.nan)
            return np.asarray(floats / 1e6)
        texts = pd.Series(array.cast(pa.string()).to_pylist(), dtype=object)
        texts = texts.fillna("").str.strip()
        texts = texts.str.replace(r"\s*UTC$", "Z", regex=True)
        first = next((text for text in texts if text[:1].isdigit()), "")
        is_compact = _COMPACT.fullmatch(first) is not None
        if _SECONDS.fullmatch(first) and not is_compact:
            numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
            middle = np.nanmedian(numbers)
            thousands = sum(middle > largest for largest in _LARGEST_TIMES)
            return np.asarray(numbers / 1000**thousands)
        form = "ISO8601"
        if is_compact:
            form = "%Y%m%d%H%M%S"
            self._note(_UTC_NOTE)
        elif _DATE_FIRST.match(first):
            texts = texts.str.replace(r"[.-]", "/", n=2, regex=True)
            form = f"{self._find_date_format(texts)}/%Y %H:%M:%S"
            self._note(_UTC_NOTE)
        else:
            texts = texts.str.replace("/", "-", regex=False)
            if not _ZONE.search(first):
                self._note(_UTC_NOTE)
        times = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
        microseconds = times.dt.as_unit("us").astype("int64")  # years before 1677
        return np.asarray(microseconds.where(times.notna()) / 1e6, np.float64)

    def _find_date_format(self, texts: pd.Series[str]) -> str:
        """Return the order of day and month.

        The day comes first, unless one of the first messages has a second number above
        12.
        """
        if not self._date_format:
            numbers = texts.str.extract(r"^(\d+)/(\d+)/").astype("float64").max()
            is_month_first = numbers[1] > 12
            self._date_format = "%m/%d" if is_month_first else "%d/%m"
            order = "month/day" if is_month_first else "day/month"
            is_sure = max(numbers) > 12
            doubt = "" if is_sure else ", which is a guess: no number is above 12"
            self.notes.append(f"dates are read as {order}/year{doubt}")
        return self._date_format

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def format_time(seconds: float) -> str:
    """Return seconds since 1970 in UTC, such as "2021-01-19 03:16:53 UTC"."""
    if abs(seconds) < 2**63:  # neither NaN nor beyond the range of NumPy's times
        return f"{np.datetime64(int(seconds), 's')} UTC".replace("T", " ", 1)
    return "unknown times"
