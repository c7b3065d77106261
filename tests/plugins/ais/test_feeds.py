"""Messages of the feeds as they are published, damaged ones, and files of other places
and times."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from rsft.errors import RequestError
from rsft.plugins.ais.feeds import SearchArea, read_messages
from tests.helpers.messages import mentions

NOON = pd.Timestamp("2026-03-14T12:00:00Z").timestamp()
AREA = SearchArea(10.0, 57.0, 1.0, 1.0, NOON - 1800, NOON + 1800)

MARINE_CADASTRE = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,Cargo,"
    "TransceiverClass\n"
    "219000001,2026-03-14T12:00:04,57.1,10.2,20.4,149.9,152.0,DEL"
    " MONTE,IMO9869693,V7A4893,70,0,192,30,7.6,70,A\n"
    "219000002,2026-03-14T11:50:00,56.9,9.9,0.0,360.0,511.0,,,,31,,,,,,A\n"
    "219000003,2026-03-14T14:00:00,57.0,10.0,0.0,360.0,511.0,,,,31,,,,,,A\n"
    "219000004,2026-03-14T12:00:00,40.0,-70.0,0.0,360.0,511.0,,,,31,,,,,,A\n"
)
DMA = (
    "# Timestamp,Type of mobile,MMSI,Latitude,Longitude,Navigational"
    " status,ROT,SOG,COG,Heading,IMO,Callsign,Name,"
    "Ship type,Cargo type,Width,Length,Type of position fixing"
    " device,Draught,Destination,ETA,Data source type,A,B,C,D"
    "\n"
    "14/03/2026 12:00:00,Base Station,2190064,57.0,10.0,Unknown"
    " value,,,,,Unknown,Unknown,,Undefined,,,,GPS,,,,AIS,,,,"
    "\n"
    "14/03/2026 12:10:30,Class A,219024000,57.417413,10.586715,Engaged in"
    " fishing,0.0,3.5,4.8,309,Unknown,OUXY,FREJA,"
    "Fishing,,7,24,GPS,3.1,GRENAA,,AIS,16,8,3,4\n"
)
SPIRE = (
    "created_at,timestamp,mmsi,msg_type,latitude,longitude,speed,course,heading,imo,name,call_sign,ship_type,length,width\n"
    "2026-03-14T13:00:00Z,2026-03-14T12:01:00.500Z,219000005,1,57.0,10.0,12.5,90.0,91,,,,,,\n"
    "2026-03-14T13:00:00Z,2026-03-14T08:00:00Z,219000005,5,,,,,,9869693,ODIN,ABCD,Tanker,183,32\n"
)


def write(folder, text, name="ais.csv"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_marine_cadastre(tmp_path):
    messages = read_messages([write(tmp_path, MARINE_CADASTRE)], AREA)
    table = messages.table
    assert table["mmsi"].tolist() == [219000001, 219000002]
    assert table["time"].tolist() == [NOON + 4, NOON - 600]
    assert table.loc[
        0, ["lat", "lon", "sog", "cog", "heading", "length", "width"]
    ].tolist() == [57.1, 10.2, 20.4, 149.9, 152.0, 192.0, 30.0]
    assert messages.static.loc[
        219000001, ["name", "imo", "call_sign", "ship_type"]
    ].tolist() == ["DEL MONTE", "IMO9869693", "V7A4893", "70"]
    counts = messages.counts
    assert (
        counts["rows"],
        counts["kept"],
        counts["at other times"],
        counts["outside of the area"],
    ) == (4, 2, 1, 1)
    assert "times have no zone, and are read as UTC" in messages.notes[0]


def test_danish_maritime_authority(tmp_path):
    messages = read_messages([write(tmp_path, DMA)], AREA)
    ship = messages.table.set_index("mmsi").loc[219024000]
    assert ship[["time", "bow", "stern", "port", "starboard"]].tolist() == [
        NOON + 630,
        16,
        8,
        3,
        4,
    ]
    assert messages.static.loc[219024000, ["name", "ship_type"]].tolist() == [
        "FREJA",
        "Fishing",
    ]
    assert any(
        "dates are read as day/month/year" in note and "guess" not in note
        for note in messages.notes
    )


def test_spire_joins_static_messages(tmp_path):
    messages = read_messages([write(tmp_path, SPIRE)], AREA)
    assert messages.table["time"].tolist() == [NOON + 60.5]
    assert messages.static.loc[219000005, ["name", "ship_type", "length"]].tolist() == [
        "ODIN",
        "Tanker",
        183.0,
    ]
    assert messages.counts["without a position"] == 1
    assert not any("no zone" in note for note in messages.notes)


def test_semicolons_and_several_files(tmp_path):
    first = write(
        tmp_path,
        "mmsi;lon;lat;date_time_utc;sog\n219000001;10;57;2026-03-14 12:00:00;5\n",
        "a.csv",
    )
    second = write(tmp_path, MARINE_CADASTRE, "b.csv")
    far = write(
        tmp_path, "mmsi,time,lat,lon\n219000001,2026-03-14 12:00:00,-57,10\n", "far.csv"
    )
    messages = read_messages([first, far, second], AREA)
    assert messages.table["sog"].tolist() == [5.0, 20.4, 0.0]
    assert messages.counts["outside of the area"] == 2


def test_antimeridian(tmp_path):
    path = write(
        tmp_path,
        "mmsi,time,lat,lon\n219000001,2026-03-14T12:00:00Z,57,-179.9\n219000002,2026-03-14T12:00:00Z,57,178\n",
    )
    assert read_messages([path], AREA._replace(lon=179.5)).table["mmsi"].tolist() == [
        219000001
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("ship,when,lat,lon\n1,2,3,4\n", "no column for mmsi, time", "rename"),
        ("", "no column for", "rename"),
        ("mmsi,time,lat,lon\n", "no rows", "download"),
        ("mmsi,time,lat,lon\n219000001,2026-03-14 12:00:00,57,1,10,2\n", "as with decimal commas", "point"),
        ("mmsi,time,lat,lon\n219000001,yesterday at noon,57,10\n", "cannot be read, such as yesterday", "2026-01-31T"),
        ("mmsi,time,lat,lon\n219000001,2026-03-14T12:00:00Z,10,57\n", "lat and lon are exchanged", "exchange"),
        ("mmsi,time,lat,lon\n219000001,2026-03-14T12:00:00Z,-33,151\n", "lat -33.00 to -33.00", "region"),
        ("mmsi,time,lat,lon\n219000001,2026-03-15T12:00:00Z,57,10\n", "2026-03-15 12:00:00 UTC", "--time"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, text, message, hint):
    path = write(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        read_messages([path], AREA)
    assert (
        message in caught.value.message
        and hint in caught.value.hint
        and str(path) in caught.value.location
    )


MEASURE = """
import json, re, sys
from pathlib import Path
from rsft.plugins.ais import feed_files
from rsft.plugins.ais.feeds import SearchArea, read_messages
feed_files._CHUNK_BYTES, feed_files._CHUNK_ROWS = 2**19, 2**14
results = []
for path in map(Path, sys.argv[1:]):
    messages = read_messages([path], SearchArea(10.0, 57.0, 0.001, 1.0, 1773487800.0, 1773491400.0))
    peak = int(re.search("VmHWM:(.+)kB", Path("/proc/self/status").read_text())[1])  # ru_maxrss is inherited
    results.append((len(messages.table), messages.counts["rows"], peak // 1024))
print(json.dumps(results))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    """10 and 100 MB of text, or one row group; every fourth line is a static message
    without a position."""
    lines = [
        f"{219000000 + i % 5000},2026-03-14T12:00:00,57.0,{11 + i % 9}.0,SHIP,0\n"
        for i in range(50_000)
    ]
    lines[3::4] = [
        f"{219000000 + i % 5000},2026-03-14T12:00:00,,,SHIP {i},70\n"
        for i in range(12_500)
    ]
    lines[0] = "219000000,2026-03-14T12:00:00,57.0,10.0,,\n"
    text = "".join(lines)
    paths = [tmp_path / f"ais{repeats}{suffix}" for repeats in (4, 40)]
    for repeats, path in zip((4, 40), paths, strict=True):
        if suffix == ".parquet":
            table = pa_csv.read_csv(
                pa.py_buffer(("MMSI,time,LAT,LON,name,ship_type\n" + text).encode())
            )
            whole = pa.concat_tables([table] * repeats)
            pq.write_table(
                whole,
                path,
                row_group_size=len(whole),
                compression="NONE",
                use_dictionary=False,
            )
        else:
            with gzip.open(path, "wt", compresslevel=1) as file:
                file.write("MMSI,time,LAT,LON,name,ship_type\n")
                for _ in range(repeats):
                    file.write(text)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        check=True,
        capture_output=True,
        text=True,
    )
    (*small, small_peak), (*large, large_peak) = json.loads(done.stdout)
    assert small == [4, 200_000] and large == [40, 2_000_000]
    assert large_peak - small_peak < 60, (small_peak, large_peak)  # megabytes


ROWS = [
    (219000001, 57.1, 10.2, 20.4, 149.9, 511),
    (219000002, 56.9, 9.9, 0.0, 360.0, 12),
]
TIMES = {
    "milliseconds": 1000 * NOON,
    "microseconds": 1e6 * NOON,
    "nanoseconds": 1e9 * NOON,
    "digits": 20260314120000,
}
HEADER = "MMSI,Timestamp,LAT,LON,SOG,COG,Heading"


def csv_rows(time: object, rows=ROWS) -> str:
    lines = [",".join(map(str, (row[0], time, *row[1:]))) for row in rows]
    return "\n".join([HEADER, *lines, ""])


@pytest.mark.parametrize("unit", TIMES)
def test_times_without_separators(tmp_path, unit):
    path = write(tmp_path, csv_rows(f"{TIMES[unit]:.0f}"))
    assert read_messages([path], AREA).table["time"].tolist() == [NOON, NOON]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mark.csv", csv_rows("2026-03-14T12:00:00Z").encode("utf-8-sig")),
        ("packed.csv", gzip.compress(csv_rows("2026-03-14T12:00:00Z").encode())),
        (
            "quoted.txt",
            csv_rows("2026-03-14 12:00:00 UTC")
            .replace(",", '"\t"')
            .replace("\n", '"\r\n"')
            .join('""')
            .encode(),
        ),
        (
            "exact.csv",
            csv_rows("2026-03-14T12:00:00Z", [("2.19000001E+08", *ROWS[0][1:])] * 2)
            .replace("2.19000001E+08", "2.19000001E8", 1)
            .encode(),
        ),
    ],
)
def test_other_programs_write_the_same_messages(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    table = read_messages([path], AREA).table
    assert (table["mmsi"][0], table["time"][0], table["heading"][0]) == (
        219000001,
        NOON,
        511,
    )
    assert len(table) == 2


def test_local_times_of_parquet(tmp_path):
    times = pd.to_datetime([NOON, NOON], unit="s", utc=True)
    frame = pd.DataFrame(ROWS, columns=["mmsi", "lat", "lon", "sog", "cog", "heading"])
    frame["timestamp"] = times.tz_convert("Asia/Tokyo")
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_messages([tmp_path / "a.parquet"], AREA).table
    assert table["time"].tolist() == [NOON, NOON]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("219000001", "2.19E+08", ["MMSI", "2.19E+08", "spreadsheet"]),
        ("57.1,10.2", "34260000,6120000", ["none in degrees"]),
        ("57.1,10.2", "57.1N,10.2E", ["none in degrees"]),
        ("57.1,10.2", "0,0", ["no AIS position lies near", "lat 0.00"]),
        ("LAT,LON", "LAT,Lat", ["no column for lon"]),
        ("SOG,COG", "SOG,sog", ["several columns", "SOG"]),
        ("2026-03-14T12:00:00Z", "00:00.0", ["Timestamp", "00:00.0"]),
    ],
)
def test_wrong_messages_are_refused(tmp_path, old, new, parts):
    text = csv_rows("2026-03-14T12:00:00Z", ROWS[:1]).replace(old, new)
    with pytest.raises(RequestError, match=mentions("ais.csv", *parts)):
        read_messages([write(tmp_path, text)], AREA)


def test_encodings_and_types_that_lose_digits_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(csv_rows("2026-03-14T12:00:00Z").encode("utf-16"))
    with pytest.raises(RequestError, match=mentions("a.csv", "UTF-8")):
        read_messages([path], AREA)
    frame = pd.DataFrame(ROWS, columns=["mmsi", "lat", "lon", "sog", "cog", "heading"])
    frame = frame.assign(timestamp=NOON).astype({"mmsi": "float32"})
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(RequestError, match=mentions("a.parquet", "mmsi", "float")):
        read_messages([tmp_path / "a.parquet"], AREA)
