"""Read files of AIS messages of any size, batch by batch: CSV, Parquet, archives.

Sources of the columns and formats: MarineCadastre's data dictionary, the Danish
Maritime Authority's README, Spire's "Standard data sample format", and ITU-R M.1371-5
for the dimensions A to D.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rsft.errors import RequestError
from rsft.plugins.ais.message_times import MessageTimes
from rsft.types import Floats
from rsft.utils.untrusted.documents import open_regular
from rsft.utils.untrusted.text_tables import (
    SYNONYMS,
    Synonyms,
    check_identifiers,
    check_names,
    find_columns,
    find_separator,
    parse_synonyms,
)

_MESSAGE_COLUMNS = parse_synonyms("""
    mmsi: mmsi userid sourcemmsi
    time: basedatetime timestamp timestamputc datetime datetimeutc timeutc dtposutc \
          msgtime receivedtime recordtime tstamp unixtime epoch utc time ts t
    sog: sog speedoverground speed speedknots sogknots
    cog: cog courseoverground course
    heading: heading trueheading hdg truehead
    length: length shiplength lengthoverall loa lengthm
    width: width shipwidth beam breadth breadthextreme widthm
    bow: a sizea dima dimensiona dimbow tobow
    stern: b sizeb dimb dimensionb dimstern tostern
    port: c sizec dimc dimensionc dimport toport
    starboard: d sized dimd dimensiond dimstarboard tostarboard
    ship_type: shipandcargotype typeofshipandcargotype vesseltype vesseltypecode \
               shiptype shiptypecode aisshiptype aistype type
    name: vesselname shipname name
    imo: imo imonumber imonum
    call_sign: callsign
""")
COLUMNS: Synonyms = {
    "lat": SYNONYMS["lat"],
    "lon": SYNONYMS["lon"],
    **_MESSAGE_COLUMNS,
}
"""Columns of messages -> names in feeds, see `rsft.utils.untrusted.text_tables`."""

TEXTS = ("ship_type", "name", "imo", "call_sign")
"""Columns of texts; all others are numbers."""

FORMATS = (
    "give CSV (also .gz, .zst, .zip) or Parquet with columns such as MMSI,"
    " BaseDateTime, LAT and LON"
)
"""Hint that names the formats of messages."""

_REQUIRED = ("mmsi", "time", "lat", "lon")
_CHUNK_BYTES = 2**22
_CHUNK_ROWS = 2**16  # Arrow reads up to 32 chunks of CSV ahead
_HEADER_BYTES = 2**16
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file -> its codec."""

_UTF8_MARK = b"\xef\xbb\xbf"
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
_DECIMAL_COMMA = r"^\s*-?\d+,\d+\s*$"


class FeedFile:
    """A file of messages.

    Args:
        path: CSV, which may be compressed (.gz, .bz2, .zst) or in a .zip archive, or
            Parquet.

    Attributes:
        columns: name of the column in the file of each column of `COLUMNS`.
        times: how its times are written.
        rows: number of rows that were read.
        broken: number of lines without as many values as the header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, str] = {}
        self.times = MessageTimes()
        self.rows = 0
        self.broken = 0
        self._decimal_commas: set[str] = set()
        self._file: BinaryIO | None = None

    @property
    def position(self) -> int:
        """Number of bytes of the file that were read."""
        if self._file is None or self._file.closed:
            return 0
        return self._file.tell()

    @property
    def notes(self) -> list[str]:
        """What was decided about its times and numbers."""
        commas = [
            f"decimal commas in the column {name} are read as decimal points"
            for name in sorted(self._decimal_commas)
        ]
        return [f"{self.path.name}: {text}" for text in [*self.times.notes, *commas]]

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the columns of all rows under the names of `COLUMNS`.

        Raises:
            RequestError: a column is missing or there twice, or the file has no rows.
        """
        with open_regular(self.path) as file:
            self._file = file
            start = file.read(4)
            if start == b"PAR1":
                yield from self._read_parquet(file)
            elif zipfile.is_zipfile(file):
                yield from self._read_archive(file)
            else:
                codecs = [_CODECS[x] for x in _CODECS if start.startswith(x)]
                yield from self._read_csv(file, *codecs)
        if not self.rows:
            raise RequestError(
                f"the AIS file has no rows; {self.broken:,} lines have not as many"
                " values as the header, as with decimal commas",
                self.path,
                "download it again; write decimals with a point (57.87), or separate"
                " values by ;",
            )

    def _read_parquet(self, file: BinaryIO) -> Iterator[pa.RecordBatch]:
        # a pre-buffer would hold whole row groups
        parquet = pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        self._find_columns(parquet.schema_arrow.names)
        names = list(self.columns.values())
        for batch in parquet.iter_batches(_CHUNK_ROWS, columns=names):
            yield self._rename(batch)

    def _read_archive(self, file: BinaryIO) -> Iterator[pa.RecordBatch]:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            members = [x for x in names if x.lower().endswith((".csv", ".txt"))]
            if not members:
                raise RequestError("the archive has no .csv file", self.path, FORMATS)
            for name in members:
                if archive.getinfo(name).flag_bits & 1:
                    raise RequestError("the archive is encrypted", self.path, FORMATS)
                with archive.open(name) as member:
                    yield from self._read_csv(member)

    def _read_csv(
        self, file: Any, codec: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        file.seek(0)
        start = pa.input_stream(file, compression=codec)
        line = start.read(_HEADER_BYTES).partition(b"\n")[0]
        if b"\0" in line:
            raise RequestError(
                "the file is no text in UTF-8", self.path, "save it as CSV in UTF-8"
            )
        header = line.removeprefix(_UTF8_MARK).decode("latin-1")
        file.seek(0)
        separator = find_separator(header, COLUMNS)
        names = [name.strip(' "\r') for name in header.split(separator)]
        self._find_columns(names)
        columns = list(self.columns.values())
        batches = pa_csv.open_csv(
            pa.input_stream(file, compression=codec),
            pa_csv.ReadOptions(
                use_threads=False,
                block_size=_CHUNK_BYTES,
                encoding="latin-1",
                skip_rows=1,
                column_names=names,
            ),
            pa_csv.ParseOptions(
                delimiter=separator, invalid_row_handler=self._skip_row
            ),
            pa_csv.ConvertOptions(
                null_values=_NULLS,
                strings_can_be_null=True,
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
            ),
        )
        for batch in batches:
            yield self._rename(batch)

    def _skip_row(self, _: Any) -> str:
        self.broken += 1
        return "skip"

    def _find_columns(self, names: list[str]) -> None:
        numbers = find_columns(names, COLUMNS)
        missing = [role for role in _REQUIRED if role not in numbers]
        if missing:
            examples = [f"{role}: {', '.join(COLUMNS[role][:4])}" for role in missing]
            raise RequestError(
                f"no column for {', '.join(missing)}; the columns are"
                f" {', '.join(names)[:300]}",
                self.path,
                f"rename the columns ({'; '.join(examples)})",
            )
        self.columns = {role: names[number] for role, number in numbers.items()}
        check_names(names, numbers.values(), self.path)

    def _rename(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        self.rows += batch.num_rows
        batch = batch.select(list(self.columns.values()))
        batch.validate(full=True)
        arrays = []
        for array in batch.columns:
            is_dictionary = pa.types.is_dictionary(array.type)
            arrays.append(array.dictionary_decode() if is_dictionary else array)
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns))

    def read_numbers(self, batch: pa.RecordBatch, name: str) -> Floats:
        """Return a column of numbers (N,), also with decimal commas.

        Texts that are no numbers and infinite numbers are NaN.
        """
        if name not in self.columns:
            return np.full(batch.num_rows, np.nan)
        array = batch.column(name)
        try:
            numbers = array.cast(pa.float64()).to_pandas()
        except pa.ArrowInvalid:  # some texts are no numbers
            array = array.cast(pa.string())
            if pc.any(pc.match_substring_regex(array, _DECIMAL_COMMA)).as_py():
                self._decimal_commas.add(self.columns[name])
            numbers = pd.to_numeric(
                pc.replace_substring(array, ",", ".").to_pandas(), errors="coerce"
            )
        values = numbers.to_numpy(np.float64, na_value=np.nan)
        return np.where(np.isfinite(values), values, np.nan)

    def read_times(self, batch: pa.RecordBatch) -> Floats:
        """Return times (N,) in seconds since 1970, UTC; NaN if they cannot be read.

        Raises:
            RequestError: most of them cannot be read.
        """
        array = batch.column("time")
        times = self.times.parse(array)
        is_unreadable = ~np.isfinite(times)
        if is_unreadable.sum() > len(times) / 2:
            example = array[int(is_unreadable.argmax())]
            raise RequestError(
                f"the times in the column {self.columns['time']} cannot be read, such"
                f" as {example}",
                self.path,
                "write them as 2026-01-31T23:59:59Z, or as seconds since 1970",
            )
        return times

    def make_table(self, batch: pa.RecordBatch) -> pd.DataFrame:
        """Return the columns of `COLUMNS` but for the time."""
        self._check_mmsi(batch.column("mmsi"))
        columns: dict[str, Any] = {}
        for name in COLUMNS:
            if name in TEXTS:
                columns[name] = self._read_texts(batch, name)
            elif name != "time":
                columns[name] = self.read_numbers(batch, name)
        table = pd.DataFrame(columns)
        table["mmsi"] = table["mmsi"].fillna(0).clip(0, 10**12).astype(np.int64)
        return table

    def _check_mmsi(self, array: pa.Array) -> None:
        """Raise an error if the numbers of ships are rounded."""
        name = self.columns["mmsi"]
        if pa.types.is_string(array.type):
            texts = array.filter(pc.match_substring_regex(array, "[eE]")).to_pylist()
            check_identifiers(name, texts, self.path)
        elif array.type in (pa.float16(), pa.float32()):
            raise RequestError(
                f"the column {name} is {array.type}, which rounds an MMSI",
                self.path,
                "write whole numbers",
            )

    def _read_texts(self, batch: pa.RecordBatch, name: str) -> pd.Series[Any]:
        texts = [None] * batch.num_rows
        if name in self.columns:
            array = pc.utf8_trim_whitespace(batch.column(name).cast(pa.string()))
            texts = [text or None for text in array.to_pylist()]
        return pd.Series(texts, dtype=object)
