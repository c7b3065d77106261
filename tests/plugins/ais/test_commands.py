"""`rsft ais match` at the command line."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


def test_match(rsft, traffic):
    command = (
        "ais",
        "match",
        str(traffic.scene),
        "--ais",
        str(traffic.ais),
        "-o",
        "m.gpkg",
        "--land",
        "none",
    )
    code, text = rsft(*command)
    assert code == 0, text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert {
        "matched 3",
        "ambiguous 0",
        "no AIS 1",
        "AIS without detection 1",
    } <= set(lines)
    assert any(line.startswith("matches") and "m.gpkg" in line for line in lines)
    code, text = rsft(*command)
    assert code == 2 and "exists already" in text
    code, text = rsft(*command, "--overwrite", "--json", "--html", "m.html")
    event = json.loads(text.splitlines()[-1])
    assert event["notes"][-1] == "no object is ambiguous, so m.html was not written"
    assert (code, event["event"], event["matched"], event["no AIS"]) == (
        0,
        "done",
        3,
        1,
    )


def test_faults_are_sentences(rsft, traffic, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("ship,when\n1,2\n")
    code, text = rsft(
        "ais",
        "match",
        str(traffic.scene),
        "--ais",
        str(bad),
        "-o",
        "m.gpkg",
        "--land",
        "none",
    )
    assert code == 2 and "no column for mmsi" in text and "Traceback" not in text
    assert not (tmp_path / "m.gpkg").exists()
    code, text = rsft(
        "ais", "match", str(traffic.scene), "--ais", str(traffic.ais), "-o", "m.csv"
    )
    assert code == 2 and ".gpkg" in text


def test_help(rsft):
    code, text = rsft("ais", "match", "--help")
    assert code == 0 and all(
        name in text for name in ("--ais", "--time", "--min-confidence", "--at", "MMSI")
    )


def _numbers_of_the_imo(text: str) -> str:
    return text.replace("21900000", "974184")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_numbers_of_the_imo, ["nine digits", "9741841"]),
        (lambda text: text.replace("219000001", "2.19E+08"), ["2.19E+08"]),
        (
            lambda text: text.replace("LAT,LON", "LON,LAT"),
            ["lat and lon are exchanged"],
        ),
        (lambda text: text.replace("2021-01-19", "2021-01-20"), ["2021-01-20"]),
    ],
)
def test_wrong_messages_are_refused(rsft, traffic, change, parts):
    traffic.ais.write_text(change(traffic.ais.read_text()))
    command = ("ais", "match", traffic.scene, "--ais", traffic.ais, "-o", "m.gpkg")
    code, text = rsft(*command, "--land", "none")
    words = " ".join(text.split())
    assert code == 2 and all(part in words for part in parts), words
    assert not (traffic.scene.parent / "m.gpkg").exists()


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("", ["same file"]),
        ("row,col\n9000,9000\n", ["no position lies in the scene", "row 9000"]),
        ("x,y,w,h\n100,100,9,9\n", ["corner", "center", "x_center"]),
    ],
)
def test_wrong_objects_are_refused(rsft, traffic, rows, parts):
    at = traffic.ais
    if rows:
        at = traffic.scene.parent / "at.csv"
        at.write_text(rows)
    else:  # one message of each ship
        lines = at.read_text().splitlines()
        at.write_text("\n".join([lines[0], *lines[1::2]]).replace("BaseDateTime", "t"))
    command = ("ais", "match", traffic.scene, "--ais", traffic.ais, "--at", at)
    code, text = rsft(*command, "-o", "m.gpkg")
    words = " ".join(text.split())
    assert code == 2 and all(part in words for part in parts), words
