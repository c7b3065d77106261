"""`rsft predict` rejects wrong options before any work."""

import json
import re

import pandas as pd
import pytest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "out.shp"], ["cuts column names at 10 characters", ".gpkg"]),
        (
            ["-o", "out.gpkg", "--land", "l.gpkg"],
            ["--land only works with --detect", "--detect"],
        ),
        (
            ["-o", "out.gpkg", "--grid", "8", "--detect"],
            ["used together", "choose one"],
        ),
        (["-o", "out.gpkg", "--stride", "8"], ["--grid as well"]),
        (
            ["-o", "out.gpkg", "--detect", "--pfa", "2"],
            ["false alarm rate of 2", "1e-6"],
        ),
        (
            ["-o", "out.gpkg", "--chips", "cut"],
            ["--chips needs scenes"],
        ),
        (["-o", "out.gpkg", "--html", "page.txt"], ["give it the suffix .html"]),
        (["-o", "out.gpkg", "--resample-to", "0"], ["--resample-to"]),
        (
            ["-o", "out.gpkg", "--unit", "sigma"],
            ["unknown unit sigma; choose one of uint8", "gamma0_db", "--unit"],
        ),
        (["-o", "out.gpkg", "--read", "asset=vv"], ["--read needs scenes", "--grid"]),
    ],
)
def test_refused(run, tmp_path, rsft, options, words):
    code, printed = rsft("predict", run, "x.png", *options)
    printed = " ".join(printed.split())
    assert (
        code == 2
        and all(word in printed for word in words)
        and "Traceback" not in printed
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_first_line_names_the_bundle_and_the_last_says_how_many_chips_are_unusual(
    run, root, rsft
):
    code, printed = rsft(
        "predict", run, root / "chips/val", "-o", "out.csv", "--engine", "torch"
    )
    table = pd.read_csv("out.csv")
    first, *_, last = printed.splitlines()
    assert re.match(
        r"bundle: bars, .+/bundle, saved \d{4}-\d\d-\d\d, classes \w+, ", first
    )
    assert code == 0 and last.startswith(
        f"{table['ood'].sum()} of 18 chips are unlike the training"
    )
    text = " ".join(printed.split())  # the width of the terminal breaks lines
    assert "class sets contain the true class of 90%" in text
    assert "if the chips are like the 18 validation chips" in text


@pytest.mark.slow
def test_json_lines(run, root, rsft):
    code, printed = rsft(
        "predict",
        run,
        root / "chips/val",
        "-o",
        "out.csv",
        "--engine",
        "torch",
        "--json",
    )
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert code == 0 and {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-2] | {"task": ""} == {
        "event": "progress",
        "task": "",
        "done": 18,
        "total": 18,
    }
    done = events[-1]
    table = pd.read_csv("out.csv")
    assert (done["event"], done["predictions"], done["chips"], done["rejected"]) == (
        "done",
        "out.csv",
        18,
        0,
    )
    assert sum(done["classes"].values()) == 18 and done["ood"] == table["ood"].sum()
    (check,) = done["checks"]
    assert (check["scene"], check["chips"], check["class_sets"], check["reason"]) == (
        "",
        18,
        "widened",
        "",
    )
    assert check["shifted"] == []
    assert "chips are unlike the training chips" in done["notes"][-1]
    code, printed = rsft("predict", run, "absent.png", "-o", "other.csv", "--json")
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert code == 2 and [event["event"] for event in events] == ["progress", "error"]
