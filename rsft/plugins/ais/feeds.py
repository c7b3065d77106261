"""Select the AIS messages near a scene, and say why if there are none."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from rsft.errors import DataError, RequestError
from rsft.plugins.ais.feed_files import FORMATS, TEXTS, FeedFile
from rsft.plugins.ais.message_times import format_time
from rsft.scenes.locators import NothingInSceneError
from rsft.types import Floats, Progress
from rsft.utils.archive_members import ZIP_FAULTS
from rsft.utils.cell.client import in_cell

SIZES = ("length", "width", "bow", "stern", "port", "starboard")
"""Columns of the size of a ship and the place of its antenna, in meters."""

_MAX_STATIC_ROWS = 2**16  # joined when there are more: a large file repeats its ships
_READ_ERRORS = (
    *ZIP_FAULTS,
    DataError,
    pa.ArrowException,
    UnicodeDecodeError,  # names in a Parquet file
)


class NoMessagesError(NothingInSceneError):
    """No message lies near a scene; the files are those of another place or time."""


class SearchArea(NamedTuple):
    """Where and when messages are kept.

    Attributes:
        lon, lat: center in degrees.
        half_width, half_height: in degrees.
        start, end: times in seconds since 1970 (UTC).
    """

    lon: float
    lat: float
    half_width: float
    half_height: float
    start: float
    end: float

    def contains(self, lon: Floats, lat: Floats) -> Any:
        """Return which positions (N,) lie inside, also across the antimeridian."""
        east = (lon - self.lon + 180) % 360 - 180
        north = lat - self.lat
        return (np.abs(north) <= self.half_height) & (np.abs(east) <= self.half_width)

    def describe(self) -> str:
        """Return the ranges of latitude and longitude."""
        lat = (self.lat - self.half_height, self.lat + self.half_height)
        lon = (self.lon - self.half_width, self.lon + self.half_width)
        return _describe_ranges(lat, lon)


def _describe_ranges(lat: Sequence[float], lon: Sequence[float]) -> str:
    return f"lat {lat[0]:.2f} to {lat[1]:.2f}, lon {lon[0]:.2f} to {lon[1]:.2f}"


class AisMessages(NamedTuple):
    """Messages near a scene.

    Attributes:
        table: one row per message, with the columns of `feed_files.COLUMNS`. `mmsi` is
            a whole number, `time` is in seconds since 1970 (UTC). Speeds are in knots,
            angles in degrees, sizes in meters; missing values are NaN and None.
        static: for each MMSI the first value of sizes and texts in any message, also in
            those without a position.
        counts: number of rows by what became of them.
        notes: remarks for the reader.
        location: the files, for messages.
    """

    table: pd.DataFrame
    static: pd.DataFrame
    counts: Counter[str]
    notes: list[str]
    location: str = ""


@in_cell
def read_messages(
    paths: Sequence[Path], area: SearchArea, progress: Progress | None = None
) -> AisMessages:
    """Read the messages of all files that lie in an area.

    Args:
        paths: the files, see `FeedFile`.
        area: the area and the times of a scene, with margins.
        progress: called with megabytes of all files.

    Returns:
        The messages, and what was left out.

    Raises:
        NoMessagesError: none of the messages lies in the area and the times. The
            message says both ranges.
        RequestError: a file cannot be read or has not the columns, or its times or
            numbers cannot be read.
    """
    selection = _Selection(area)
    total = sum(path.stat().st_size for path in paths if path.is_file())
    done = 0
    for path in paths:
        feed = FeedFile(path)
        try:
            for batch in feed.read():
                selection.add(feed, batch)
                if progress:
                    megabytes = (done + feed.position) // 2**20
                    progress(megabytes, total // 2**20 + 1, "reading AIS")
        except _READ_ERRORS as error:
            text = error.message if isinstance(error, DataError) else str(error)
            reason = " ".join(text.split())[:200]
            raise RequestError(
                f"the AIS file cannot be read: {reason}", path, FORMATS
            ) from error
        done += path.stat().st_size
        selection.finish_file(feed)
    location = ", ".join(map(str, paths))
    if not selection.counts["kept"]:
        raise selection.make_error(location)
    return selection.make_messages(location)


class _Selection:
    """The messages in an area, and the ranges of all others."""

    def __init__(self, area: SearchArea) -> None:
        self.area = area
        self.counts = Counter[str]()
        self.notes: list[str] = []
        self.tables: list[pd.DataFrame] = []
        self.static: list[pd.DataFrame] = []
        self.exchanged = 0
        self.ranges = {name: (np.inf, -np.inf) for name in ("lat", "lon", "time")}

    def add(self, feed: FeedFile, batch: pa.RecordBatch) -> None:
        """Keep the rows of a batch that lie in the area and the times."""
        lat = feed.read_numbers(batch, "lat")
        lon = feed.read_numbers(batch, "lon")
        self._extend("lat", lat[np.abs(lat) <= 90])
        self._extend("lon", lon[np.abs(lon) <= 180])
        has_position = np.isfinite(lat) & np.isfinite(lon)
        is_inside = has_position & self.area.contains(lon, lat)
        self.exchanged += int((has_position & self.area.contains(lat, lon)).sum())
        self._count("rows", np.ones(len(lat), bool))
        self._count("without a position", ~has_position)
        self._count("outside of the area", has_position & ~is_inside)
        if {*TEXTS, "length", "bow"} & set(feed.columns) and not has_position.all():
            self._add_static(feed.make_table(batch.filter(pa.array(~has_position))))
        batch = batch.filter(pa.array(is_inside))
        if not len(batch):
            return
        times = feed.read_times(batch)
        is_readable = np.isfinite(times)
        self._extend("time", times[is_readable])
        is_kept = (times >= self.area.start) & (times <= self.area.end)
        self._count("with an unreadable time", ~is_readable)
        self._count("at other times", is_readable & ~is_kept)
        self._count("kept", is_kept)
        table = feed.make_table(batch.filter(pa.array(is_kept)))
        self.tables.append(table.assign(time=times[is_kept]))

    def finish_file(self, feed: FeedFile) -> None:
        """Add the counts and notes of a file."""
        self.counts["broken lines"] += feed.broken
        self.notes += feed.notes

    def _count(self, name: str, rows: Any) -> None:
        self.counts[name] += int(rows.sum())

    def _add_static(self, table: pd.DataFrame) -> None:
        """Keep the first values of each ship."""
        table = table[["mmsi", *SIZES, *TEXTS]]
        sizes = table[["length", "width"]]
        table = table.assign(**sizes.where(sizes > 0))  # 0 means not available
        self.static.append(table)
        added = sum(len(part) for part in self.static[1:])
        if added > max(len(self.static[0]), _MAX_STATIC_ROWS):
            self.static = [self._first_values()]

    def _first_values(self) -> pd.DataFrame:
        return pd.concat(self.static).groupby("mmsi", as_index=False).first()

    def _extend(self, name: str, values: Floats) -> None:
        low, high = self.ranges[name]
        self.ranges[name] = (values.min(initial=low), values.max(initial=high))

    def make_error(self, location: str) -> NoMessagesError:
        """Return the error that no message lies in the area and the times."""
        positions = self.counts["rows"] - self.counts["without a position"]
        if self.counts["outside of the area"] < positions:
            return self._make_error_of_times(location)
        ranges = "none in degrees, such as 57.87"
        if np.isfinite([self.ranges["lat"], self.ranges["lon"]]).all():
            ranges = _describe_ranges(self.ranges["lat"], self.ranges["lon"])
        message = (
            f"no AIS position lies near the scene ({self.area.describe()}); those of"
            f" the file have {ranges}"
        )
        hint = "give the AIS file of this region"
        if self.exchanged:
            message += f"; {self.exchanged:,} lie near it if lat and lon are exchanged"
            hint += ", or exchange the names of the two columns"
        return NoMessagesError(message, location, hint)

    def _make_error_of_times(self, location: str) -> NoMessagesError:
        limits = (self.area.start, self.area.end, *self.ranges["time"])
        start, end, first, last = map(format_time, limits)
        message = (
            f"no AIS message is from the time of the scene ({start} to {end}); those"
            f" near it are from {first} to {last}"
        )
        hint = "give the AIS file of this day; check the zone of its times, and --time"
        return NoMessagesError(message, location, "; ".join([hint, *self.notes]))

    def make_messages(self, location: str) -> AisMessages:
        """Return all messages that were kept."""
        table = pd.concat(self.tables, ignore_index=True)
        self._add_static(table)
        static = self._first_values()
        static = static[static["mmsi"].isin(table["mmsi"])]
        static = static.set_index("mmsi")
        return AisMessages(table, static, self.counts, self.notes, location)
