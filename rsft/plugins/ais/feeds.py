"""Read the AIS messages near a scene from CSV and Parquet files of any size, chunk by chunk.

Sources of the columns and formats: MarineCadastre's data dictionary, the Danish
Maritime Authority's README, Spire's "Standard data sample format", and ITU-R M.1371-5
for the dimensions A to D.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rsft.errors import DataError, RequestError
from rsft.scenes.locators import NothingInSceneError
from rsft.types import Floats, Progress
from rsft.utils.untrusted.documents import open_regular

SYNONYMS: dict[str, tuple[str, ...]] = {
    "mmsi": ("mmsi", "userid", "sourcemmsi"),
    "time": (
        "basedatetime",
        "timestamp",
        "timestamputc",
        "datetime",
        "datetimeutc",
        "timeutc",
        "dtposutc",
        "msgtime",
        "receivedtime",
        "recordtime",
        "tstamp",
        "unixtime",
        "epoch",
        "utc",
        "time",
        "ts",
        "t",
    ),
    "lat": ("lat", "latitude", "latitudedegrees"),
    "lon": ("lon", "longitude", "long", "lng", "longitudedegrees"),
    "sog": ("sog", "speedoverground", "speed", "speedknots", "sogknots"),
    "cog": ("cog", "courseoverground", "course"),
    "heading": ("heading", "trueheading", "hdg", "truehead"),
    "length": ("length", "shiplength", "lengthoverall", "loa", "lengthm"),
    "width": ("width", "shipwidth", "beam", "breadth", "breadthextreme", "widthm"),
    "bow": ("a", "sizea", "dima", "dimensiona", "dimbow", "tobow"),
    "stern": ("b", "sizeb", "dimb", "dimensionb", "dimstern", "tostern"),
    "port": ("c", "sizec", "dimc", "dimensionc", "dimport", "toport"),
    "starboard": ("d", "sized", "dimd", "dimensiond", "dimstarboard", "tostarboard"),
    "ship_type": (
        "shipandcargotype",
        "typeofshipandcargotype",
        "vesseltype",
        "vesseltypecode",
        "shiptype",
        "shiptypecode",
        "aisshiptype",
        "aistype",
        "type",
    ),
    "name": ("vesselname", "shipname", "name"),
    "imo": ("imo", "imonumber", "imonum"),
    "call_sign": ("callsign",),
}
"""Columns of messages -> names in feeds, in lower case, without spaces and punctuation.
The first one counts."""

TEXTS = ("ship_type", "name", "imo", "call_sign")
"""Columns of texts; all others are numbers."""

_SIZES = ("length", "width", "bow", "stern", "port", "starboard")
_ZONES = sorted(range(-12, 15), key=abs)  # hours from UTC, those near to it first

_REQUIRED = ("mmsi", "time", "lat", "lon")
_CHUNK_BYTES = 2**22
_CHUNK_ROWS = 2**16  # Arrow reads up to 32 chunks of CSV ahead
_HEADER_BYTES = 2**16
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_NULLS = [
    "",
    "NA",
    "N/A",
    "nan",
    "NaN",
    "None",
    "null",
    "NULL",
    "Unknown",
    "Unknown value",
]
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_DECIMAL_COMMA = r"^\s*-?\d+,\d+\s*$"
_HINT = (
    "give CSV (also .gz, .zst, .zip) or Parquet with columns such as MMSI,"
    " BaseDateTime, LAT and LON"
)


class NoMessagesError(NothingInSceneError):
    """No message lies near a scene; the files are those of another place or time."""


class SearchArea(NamedTuple):
    """Where and when messages are kept: around a center in degrees, and between two times in seconds since 1970 (UTC).

    Half of the height and half of the width are in degrees.
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
        return (np.abs(lat - self.lat) <= self.half_height) & (
            np.abs(east) <= self.half_width
        )

    def describe(self) -> str:
        """Return the ranges of latitude and longitude."""
        sides = ((self.lat, self.half_height), (self.lon, self.half_width))
        lat, lon = (
            f"{middle - half:.2f} to {middle + half:.2f}" for middle, half in sides
        )
        return f"lat {lat}, lon {lon}"


class AisMessages(NamedTuple):
    """Messages near a scene.

    Attributes:
        table: one row per message: the columns of `SYNONYMS`, with `mmsi` as whole
            number and `time` in seconds since 1970 (UTC). Speeds are in knots, angles
            in degrees, sizes in meters; missing values are NaN and None.
        static: for each MMSI the first value of sizes and texts in any message, also in
            those without a position.
        counts: number of rows by what became of them.
        notes: remarks for the reader.
    """

    table: pd.DataFrame
    static: pd.DataFrame
    counts: Counter[str]
    notes: list[str]


def read_messages(
    paths: Sequence[Path], area: SearchArea, progress: Progress | None = None
) -> AisMessages:
    """Read the messages of all files that lie in an area.

    Args:
        paths: CSV files, which may be compressed (.gz, .bz2, .zst) or in a .zip
            archive, or Parquet files.
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
    without = 0
    for path in paths:
        before = selection.counts["kept"]
        feed = _Feed(path)
        try:
            for batch in feed.batches():
                selection.add(feed, batch)
                if progress:
                    progress(
                        (done + feed.position()) // 2**20,
                        total // 2**20 + 1,
                        "reading AIS",
                    )
        except (
            OSError,
            DataError,
            pa.ArrowException,
            zipfile.BadZipFile,
            EOFError,
            NotImplementedError,
        ) as error:
            if isinstance(error, DataError):
                reason = error.message
            else:
                reason = " ".join(str(error).split())[:200]
            raise RequestError(
                f"the AIS file cannot be read: {reason}", path, _HINT
            ) from error
        feed.check()
        selection.counts["broken lines"] += feed.broken
        kept = selection.counts["kept"] - before
        selection.notes += [
            *feed.notes,
            *([f"{path.name}: {kept:,} messages near the scene"] if kept else []),
        ]
        without += not kept
        done += path.stat().st_size
    if 0 < without < len(paths):
        selection.notes.append(
            f"AIS files without messages near the scene: {without:,} of {len(paths):,}"
        )
    if not selection.counts["kept"]:
        selection.fail(", ".join(map(str, paths)))
    return selection.result()


@dataclass
class _Feed:
    """A file, its columns, and how its times are written."""

    path: Path
    columns: dict[str, str] = field(default_factory=dict)
    day_first: bool | None = None
    broken: int = 0
    rows: int = 0
    has_zone: bool = True
    notes: list[str] = field(default_factory=list)
    raw: BinaryIO | None = None

    def position(self) -> int:
        """Return the number of bytes that were read."""
        if self.raw is not None and not self.raw.closed:
            return self.raw.tell()
        return 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the known columns of all rows under the names of `SYNONYMS`."""
        with open_regular(self.path) as self.raw:
            if self.raw.read(4) == b"PAR1":
                file = pq.ParquetFile(
                    self.raw, buffer_size=2**20, pre_buffer=False
                )  # not whole row groups
                self._find_columns(file.schema_arrow.names)
                yield from map(
                    self._rename,
                    file.iter_batches(_CHUNK_ROWS, columns=list(self.columns.values())),
                )
            elif zipfile.is_zipfile(self.raw):
                with zipfile.ZipFile(self.raw) as archive:
                    members = [
                        name
                        for name in archive.namelist()
                        if name.lower().endswith((".csv", ".txt"))
                    ]
                    if not members:
                        raise RequestError(
                            "the archive has no .csv file", self.path, _HINT
                        )
                    for name in members:
                        yield from self._csv_batches(partial(archive.open, name))
            else:
                yield from self._csv_batches(
                    self._open, _CODECS.get(self.path.suffix.lower())
                )

    def _open(self) -> BinaryIO:
        self.raw = open_regular(self.path)
        return self.raw

    def _csv_batches(
        self, open_file: Callable[[], Any], codec: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        start = pa.input_stream(open_file(), compression=codec).read(_HEADER_BYTES)
        header = start.partition(b"\n")[0].decode("latin-1").strip("\r")
        delimiter = max(",;\t|", key=header.count)
        names = [name.strip(' "') for name in header.split(delimiter)]
        self._find_columns(names)
        columns = list(self.columns.values())

        def skip(_: Any) -> str:
            self.broken += 1
            return "skip"

        reading = {
            "block_size": _CHUNK_BYTES,
            "encoding": "latin-1",
            "skip_rows": 1,
            "column_names": names,
        }
        parsing = pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip)
        types = {
            "column_types": dict.fromkeys(columns, pa.string()),
            "include_columns": columns,
        }
        converting = pa_csv.ConvertOptions(
            null_values=_NULLS, strings_can_be_null=True, **types
        )
        stream = pa.input_stream(open_file(), compression=codec)
        reading_options = pa_csv.ReadOptions(use_threads=False, **reading)
        yield from map(
            self._rename, pa_csv.open_csv(stream, reading_options, parsing, converting)
        )

    def _find_columns(self, names: list[str]) -> None:
        """Find the columns by their names.

        Raises:
            RequestError: one of time, position and MMSI is missing, or a column is
                there twice.
        """
        plain = {
            re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)
        }
        self.columns = {
            key: plain[first]
            for key, known in SYNONYMS.items()
            if (first := next((name for name in known if name in plain), None))
            is not None
        }
        missing = [key for key in _REQUIRED if key not in self.columns]
        if missing:
            message = (
                f"no column for {', '.join(missing)}; the columns are"
                f" {', '.join(names)[:300]}"
            )
            expected = "; ".join(
                f"{key}: {', '.join(SYNONYMS[key][:4])}" for key in missing
            )
            raise RequestError(message, self.path, f"rename the columns ({expected})")
        repeated = [name for name in self.columns.values() if names.count(name) > 1]
        if repeated:
            raise RequestError(
                f"several columns have the name {repeated[0]}",
                self.path,
                "remove or rename one of them",
            )

    def _rename(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self.rows += batch.num_rows
        batch = batch.select(list(self.columns.values()))
        batch.validate(full=True)
        arrays = [
            x.dictionary_decode() if pa.types.is_dictionary(x.type) else x
            for x in batch.columns
        ]
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns))

    def check(self) -> None:
        """Raise RequestError if no line of the file has as many values as its header."""
        if self.broken and not self.rows:
            raise RequestError(
                (
                    f"none of {self.broken:,} lines has as many values as the header, as"
                    " with decimal commas"
                ),
                self.path,
                "write decimals with a point (57.87), or separate values by ;",
            )
        if not self.rows:
            raise RequestError(
                "the AIS file has no rows", self.path, "download it again"
            )

    def numbers(self, batch: pa.RecordBatch, name: str) -> Floats:
        """Return a column of numbers (N,), also with decimal commas; NaN where there is none."""
        if name not in batch.schema.names:
            return np.full(batch.num_rows, np.nan)
        array = batch.column(name)
        try:
            return np.asarray(
                array.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64
            )
        except pa.ArrowInvalid:  # some texts are no numbers
            array = array.cast(pa.string())
            if pc.any(pc.match_substring_regex(array, _DECIMAL_COMMA)).as_py():
                self._note(
                    f"decimal commas in the column {self.columns[name]} are read as"
                    " decimal points"
                )
            texts = pc.replace_substring(array, ",", ".").to_pandas()
            return np.asarray(
                pd.to_numeric(texts, errors="coerce").to_numpy(
                    np.float64, na_value=np.nan
                )
            )

    def times(self, array: pa.Array) -> Floats:
        """Return times (N,) in seconds since 1970, UTC; NaN for times that cannot be read."""
        if pa.types.is_timestamp(array.type):
            self._set_zone(array.type.tz is not None)
            array = array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64())
            return np.asarray(
                array.cast(pa.float64()).to_numpy(zero_copy_only=False) / 1e6
            )
        texts = pd.Series(
            [text or "" for text in array.cast(pa.string()).to_pylist()], dtype=object
        ).str.strip()
        texts = texts.str.replace(r"\s*UTC$", "Z", regex=True)
        first = next((text for text in texts if text[:1].isdigit()), "")
        if re.fullmatch(r"\d{9,}(\.\d*)?", first):
            seconds = pd.to_numeric(texts, errors="coerce").to_numpy(
                np.float64, na_value=np.nan
            )
            return np.asarray(seconds / (1000 if np.nanmedian(seconds) > 1e11 else 1))
        form: str = "ISO8601"
        if re.match(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}", first):
            texts = texts.str.replace(r"[.-]", "/", n=2, regex=True)
            form = ("%d/%m" if self._is_day_first(texts) else "%m/%d") + "/%Y %H:%M:%S"
        else:
            texts = texts.str.replace("/", "-", regex=False)
        self._set_zone(form == "ISO8601" and _ZONE.search(first) is not None)
        times = pd.to_datetime(
            texts, format=form, utc=True, errors="coerce"
        ).dt.as_unit("us")  # years before 1677
        return np.asarray(times.astype("int64").where(times.notna()) / 1e6, np.float64)

    def _is_day_first(self, texts: pd.Series[str]) -> bool:
        """Return whether dates begin with the day: unless one of the first messages has a second number above 12."""
        if self.day_first is None:
            parts = texts.str.extract(r"^(\d+)/(\d+)/").astype("float64").max()
            self.day_first = not parts[1] > 12
            if max(parts) > 12:
                sure = ""
            else:
                sure = ", which is a guess: no number is above 12"
            if self.day_first:
                order = "day/month/year"
            else:
                order = "month/day/year"
            self._note(f"dates are read as {order}{sure}")
        return self.day_first

    def _set_zone(self, has_zone: bool) -> None:
        self.has_zone &= has_zone
        if not has_zone:
            self._note("times have no zone, and are read as UTC")

    def _note(self, text: str) -> None:
        note = f"{self.path.name}: {text}"
        if note not in self.notes:
            self.notes.append(note)


class _Selection:
    """The messages in an area, and the ranges of all others."""

    def __init__(self, area: SearchArea) -> None:
        self.area = area
        self.counts = Counter[str]()
        self.notes = list[str]()
        self.tables: list[pd.DataFrame] = []
        self.static: list[pd.DataFrame] = []
        self.exchanged = 0
        self.has_zone = True
        self.ranges = {name: [np.inf, -np.inf] for name in ("lat", "lon", "time")}

    def add(self, feed: _Feed, batch: pa.RecordBatch) -> None:
        """Keep the rows of a batch that lie in the area and the times."""
        lat = feed.numbers(batch, "lat")
        lon = feed.numbers(batch, "lon")
        has_position = np.isfinite(lat) & np.isfinite(lon)
        inside = np.flatnonzero(has_position & self.area.contains(lon, lat))
        self.exchanged += int((has_position & self.area.contains(lat, lon)).sum())
        self._extend("lat", lat[np.abs(lat) <= 90])
        self._extend("lon", lon[np.abs(lon) <= 180])
        self.counts += Counter(
            {"rows": len(lat), "without a position": int((~has_position).sum())}
        )
        self.counts["outside of the area"] += int(has_position.sum()) - len(inside)
        if {*TEXTS, "length", "bow"} & set(feed.columns) and not has_position.all():
            self._add_static(
                self._table(feed, batch.take(pa.array(np.flatnonzero(~has_position))))
            )
        if len(inside):
            times = feed.times(batch.column("time").take(pa.array(inside)))
        else:
            times = np.empty(0)
        is_unreadable = ~np.isfinite(times)
        if 2 * is_unreadable.sum() > len(times):
            example = batch.column("time").take(pa.array(inside[is_unreadable][:1]))[0]
            raise RequestError(
                (
                    f"the times in the column {feed.columns['time']} cannot be read, such"
                    f" as {example}"
                ),
                feed.path,
                "write them as 2026-01-31T23:59:59Z, or as seconds since 1970",
            )
        self._extend("time", times[~is_unreadable])
        kept = ~is_unreadable & (times >= self.area.start) & (times <= self.area.end)
        self.counts["with an unreadable time"] += int(is_unreadable.sum())
        self.counts["at other times"] += int((~is_unreadable & ~kept).sum())
        self.counts["kept"] += int(kept.sum())
        self.tables.append(
            self._table(feed, batch.take(pa.array(inside[kept]))).assign(
                time=times[kept]
            )
        )
        self.has_zone &= feed.has_zone

    def _add_static(self, table: pd.DataFrame) -> None:
        """Keep the first values of each ship, again and again: a large file repeats the same ships."""
        table = table[["mmsi", *_SIZES, *TEXTS]]
        known = {
            name: table[name].where(table[name] > 0) for name in ("length", "width")
        }  # 0 means not available
        self.static.append(table.assign(**known))
        if sum(map(len, self.static[1:])) > max(len(self.static[0]), _CHUNK_ROWS):
            self.static = [self._first_values()]

    def _first_values(self) -> pd.DataFrame:
        return pd.concat(self.static).groupby("mmsi", as_index=False).first()

    def _extend(self, name: str, values: Floats) -> None:
        limits = self.ranges[name]
        limits[:] = (
            min(limits[0], values.min(initial=np.inf)),
            max(limits[1], values.max(initial=-np.inf)),
        )

    @staticmethod
    def _table(feed: _Feed, batch: pa.RecordBatch) -> pd.DataFrame:
        columns: dict[str, Any] = {}
        for name in SYNONYMS:
            if name in TEXTS:
                is_known = name in batch.schema.names
                if is_known:
                    texts = batch.column(name).cast(pa.string()).to_pylist()
                else:
                    texts = [None] * batch.num_rows
                columns[name] = pd.Series(
                    [(x and x.strip()) or None for x in texts], dtype=object
                )
            elif name != "time":
                columns[name] = feed.numbers(batch, name)
        table = pd.DataFrame(columns)
        return table.assign(
            mmsi=table["mmsi"].fillna(0).clip(0, 10**12).astype(np.int64)
        )

    def fail(self, location: str) -> None:
        """Raise NoMessagesError: no message lies in the area and the times; say why."""
        area, (south, north), (west, east) = (
            self.area,
            self.ranges["lat"],
            self.ranges["lon"],
        )
        if (
            not self.counts["outside of the area"]
            < self.counts["rows"] - self.counts["without a position"]
        ):
            positions = f"lat {south:.2f} to {north:.2f}, lon {west:.2f} to {east:.2f}"
            message = (
                f"no AIS position lies near the scene ({area.describe()}); those of the"
                f" file have {positions}"
            )
            hint = "give the AIS file of this region"
            if self.exchanged:
                message += (
                    f"; {self.exchanged:,} lie near it if lat and lon are exchanged"
                )
                hint += ", or exchange the names of the two columns"
            raise NoMessagesError(message, location, hint)
        start, end, first, last = map(
            format_time, (area.start, area.end, *self.ranges["time"])
        )
        message = (
            f"no AIS message is from the time of the scene ({start} to {end}); those"
            f" near it are from {first} to {last}"
        )
        hint = (
            "give the AIS file of this day; check the zone of its times, and"
            f" --time{self._suggest_zone()}"
        )
        raise NoMessagesError(message, location, "; ".join([hint, *self.notes]))

    def _suggest_zone(self) -> str:
        """Return the zone in which most times without a zone would be those of the scene, for a hint; "" for none."""
        (first, last), (start, end) = (
            self.ranges["time"],
            (self.area.start, self.area.end),
        )
        overlaps = {
            hours: min(last - 3600 * hours, end) - max(first - 3600 * hours, start)
            for hours in _ZONES
        }
        hours = max(overlaps, key=lambda hours: overlaps[hours])
        if self.has_zone or not overlaps[hours] >= 0:
            return ""
        zone = f"{hours:+03d}:00"
        return (
            f"; they fit if they are local times of UTC{zone}: write"
            f" {format_time(first)[:-4]}{zone}"
        )

    def result(self) -> AisMessages:
        """Return all messages that were kept."""
        table = pd.concat(self.tables, ignore_index=True)
        self._add_static(table)
        static = self._first_values()
        static = static[static["mmsi"].isin(table["mmsi"].unique())]
        return AisMessages(table, static.set_index("mmsi"), self.counts, self.notes)


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC, such as "2021-01-19 03:16:53 UTC"."""
    if np.isfinite(seconds):
        return f"{np.datetime64(int(seconds), 's')} UTC".replace("T", " ", 1)
    return "unknown times"
