"""Containers of messages, damaged files, numbers and broken lines."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from rsft.errors import RequestError
from rsft.plugins.ais import feed_files
from rsft.plugins.ais.feeds import SearchArea, read_messages

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


def write(folder, text, name="ais.csv"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv.gz", ".zip", ".parquet", ".csv.zst"])
def test_containers(tmp_path, suffix):
    path = tmp_path / f"ais{suffix}"
    plain = write(tmp_path, MARINE_CADASTRE, "plain.csv")
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, "AIS_2026_03_14.csv")
    elif suffix == ".parquet":
        pq.write_table(pa_csv.read_csv(plain), path)
    elif suffix == ".csv.zst":
        with pa.output_stream(path, compression="zstd") as file:
            file.write(plain.read_bytes())
    else:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    expected = read_messages([plain], AREA).table
    pd.testing.assert_frame_equal(
        read_messages([path], AREA).table[["mmsi", "time", "lat"]],
        expected[["mmsi", "time", "lat"]],
    )


def test_chunks(tmp_path, monkeypatch):
    # a limit of memory, small enough for a test
    monkeypatch.setattr(feed_files, "_CHUNK_BYTES", 4096)
    lines = [
        f"{219000000 + i},2026-03-14T12:00:00,57.0,{10 + i / 1e4}\n"
        for i in range(3000)
    ]
    calls = []
    messages = read_messages(
        [write(tmp_path, "MMSI,BaseDateTime,LAT,LON\n" + "".join(lines))],
        AREA,
        lambda *x: calls.append(x),
    )
    assert len(messages.table) == 3000 and len(calls) > 10
    assert np.allclose(messages.table["lon"], 10 + np.arange(3000) / 1e4)


def test_decimal_commas(tmp_path):
    path = write(
        tmp_path,
        "mmsi;time;lat;lon;sog\n219000001;2026-03-14 12:00:00;57,1;10,25;3,5\n",
    )
    messages = read_messages([path], AREA)
    assert messages.table.loc[0, ["lat", "lon", "sog"]].tolist() == [57.1, 10.25, 3.5]
    assert (
        "ais.csv: decimal commas in the column lat are read as decimal points"
        in messages.notes
    )


def test_infinite_numbers_are_unknown(tmp_path):
    path = write(
        tmp_path,
        "mmsi;time;lat;lon;sog;A;B\n"
        "219000001;2026-03-14 12:00:00;57.1;10.25;1e999;90;inf\n",
    )
    (row,) = read_messages([path], AREA).table.to_dict("records")
    assert np.isnan([row["sog"], row["stern"]]).all() and row["bow"] == 90


@pytest.mark.parametrize(
    "content", [b"PAR1 not parquet", b"\x1f\x8bno gzip", b"PK\x03\x04no zip"]
)
def test_damaged_files(tmp_path, content):
    path = tmp_path / "ais.gz"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_messages([path], AREA)
    assert str(path) in caught.value.location
    with pytest.raises(RequestError, match="cannot be read"):
        read_messages([tmp_path / "missing.csv"], AREA)


@pytest.mark.parametrize(
    ("position", "byte", "message"),
    [(6, 1, "encrypted"), (60, 0xFF, "invalid"), (8, 99, "not supported")],
)
def test_a_member_that_cannot_be_read(tmp_path, position, byte, message):
    path = tmp_path / "ais.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", MARINE_CADASTRE)
    content = bytearray(path.read_bytes())
    content[position] = byte  # of the header of the member, or of its data
    central = content.rindex(b"PK\x01\x02")
    if position < 30:
        content[central + 2 + position] = byte  # of the list of members
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read_messages([path], AREA)


def test_broken_lines_are_counted(tmp_path):
    text = MARINE_CADASTRE + "219000009,2026-03-14T12:00:00\nnonsense,also nonsense\n"
    counts = read_messages([write(tmp_path, text)], AREA).counts
    assert (counts["broken lines"], counts["kept"]) == (2, 2)
