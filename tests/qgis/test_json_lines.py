"""Lines that rsft prints, as the plug-in reads them."""

import json

import pandas as pd
import pytest
from rsft_qgis.json_lines import (
    Epoch,
    Failure,
    OtherEvent,
    Progress,
    Result,
    Start,
    parse_line,
)

from rsft.cli.display.failures import quiet_console
from rsft.cli.display.results import emit_predictions, report_progress
from rsft.errors import DataError
from rsft.inference.predict.result import PredictionResult


def test_lines_of_rsft(capsys, tmp_path):
    with report_progress(as_json=True) as report:
        report(5, 20, "classifying")
    table = pd.DataFrame({"class": ["a", "b", "a"]})
    rejections = [(str(tmp_path), 0, "too small")]
    notes = ["engine: torch"]
    out = tmp_path / "o.gpkg"
    result = PredictionResult(table, rejections, ("a", "b"), out, None, notes)
    emit_predictions(result, {})
    with pytest.raises(DataError), quiet_console(quiet=False, as_json=True):
        raise DataError("no unit", "a.tif", "declare it with --unit")
    progress, result, failure = (
        parse_line(line) for line in capsys.readouterr().out.splitlines()
    )
    assert progress == Progress("classifying", 5, 20) and progress.percent == 25.0
    assert (
        isinstance(result, Result)
        and result.count("chips") == 3
        and result.count("rejected") == 1
    )
    assert (
        result.class_counts == {"a": 2, "b": 1}
        and result.notes == ["engine: torch"]
        and not result.is_foreign
    )
    assert failure == Failure("no unit", "a.tif", "declare it with --unit")
    assert str(failure) == "no unit\nwhere: a.tif\nhint: declare it with --unit"


@pytest.mark.parametrize(
    "line",
    ["", "warning: license", "{", "[1]", "3", "null", '{"task": "x"}', "\x00", '{"a":'],
)
def test_other_lines_are_texts(line):
    assert parse_line(line) is None


def test_events_of_a_run():
    assert parse_line(
        '{"event": "started", "recipe": {"train": {"epochs": 5}}}'
    ) == Start(5)
    first = parse_line(
        '{"event": "epoch", "epoch": 1.0, "train_loss": 0.564, "val_macro": 0.478,'
        ' "modulator": {}}'
    )
    assert (
        first == Epoch(2, 0.564, 0.478)
        and first.describe(5) == "epoch 2 of 5: loss 0.56, val macro 48 %"
    )
    other = parse_line(
        '{"event": "epoch", "epoch": 0, "train_loss": null, "val_macro": null}'
    )
    assert other == Epoch(1) and other.describe(0) == "epoch 1: done"
    assert parse_line('{"event": "started", "recipe": []}') == Start(0)
    assert (
        parse_line('{"event": "scene"}')
        == parse_line('{"event": null}')
        == OtherEvent()
    )


def test_faults_of_a_recipe():
    fault = {
        "file": "overrides",
        "line": 0,
        "key": "train.epochs",
        "found": "x",
        "allowed": "an integer",
    }
    failure = parse_line(
        json.dumps({"event": "error", "message": "1 fault", "faults": [fault, None]})
    )
    assert str(failure) == "1 fault\ntrain.epochs: found x; an integer"


def test_events_with_missing_keys():
    assert parse_line(
        '{"event": "step", "done": 3, "total": 12, "loss": 0.5}'
    ) == Progress("training", 3, 12)
    assert parse_line('{"event": "progress"}') == Progress("", 0, 0)
    assert Progress("", 3, 0).percent == 0.0
    assert parse_line(
        '{"event": "progress", "task": "t", "done": null, "total": "x"}'
    ) == Progress("t", 0, 0)
    assert parse_line('{"event": "error", "message": null}') == Failure("rsft stopped")
    empty = parse_line('{"event": "done", "notes": null}')
    assert (
        isinstance(empty, Result)
        and empty.notes == []
        and empty.class_counts == {}
        and empty.count("chips") == 0
    )


@pytest.mark.parametrize(
    ("check", "is_foreign"),
    [
        ({"class_sets": "withheld"}, True),
        ({"class_sets": "plain", "shifted": ["distance"]}, True),
        ({"shifted": []}, False),
    ],
)
def test_scenes_unlike_the_training_data(check, is_foreign):
    assert Result({"checks": [check]}).is_foreign is is_foreign
