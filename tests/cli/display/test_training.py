"""Lines, bars and JSON of a training."""

import json
import math
from dataclasses import replace
from unittest.mock import Mock, call

import pytest

from rsft.cli.display.training import (
    JsonLines,
    TrainingLines,
    choose_display,
    format_cell,
)
from rsft.peft import Site
from rsft.recipe.load import load_recipe
from rsft.training.listeners import RunListener
from rsft.training.runs.writer import Run
from tests.helpers.event_lines import ROW, RUN_METADATA, STEP


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({}, TrainingLines),
        ({"quiet": True}, RunListener),
        ({"as_json": True}, JsonLines),
    ],
)
def test_display_depends_on_flags(recipe_file, flags, kind):
    flags = {"quiet": False, "as_json": False} | flags
    with choose_display(load_recipe(recipe_file), **flags) as display:
        assert type(display) is kind


def test_only_rank_zero_has_a_display(recipe_file, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with choose_display(load_recipe(recipe_file), quiet=False, as_json=True) as display:
        assert type(display) is RunListener


@pytest.fixture
def log(recipe_file, capsys):
    def lines(*overrides):
        display = TrainingLines(load_recipe(recipe_file, overrides), Mock())
        display.on_start(None, RUN_METADATA)
        for done in range(46, 51):
            display.on_step(replace(STEP, step=done - 45, done=done))
        display.on_epoch_end(ROW, {})
        return capsys.readouterr().out.splitlines()

    return lines


def test_one_line_per_few_steps_and_per_epoch(log):
    header, step, epoch = log()
    assert (
        header
        == "bars  vit_tiny_patch8_64.simship  LoRA with a modulator (MetaPEFT)  1,000"
        " of 2,000 parameters trained  40 training chips  on cpu"
    )
    assert step == "epoch 1/3  step 5/5  loss 1.500  30 images/s  0:01:15 left"
    assert (
        epoch
        == "epoch 1  loss 1.500  val loss 1.250  head 50.0  tail 25.0  macro 40.0 "
        " overall 45.0  30 images/s"
    )


def test_what_takes_long_is_reported(recipe_file):
    report = Mock()
    display = TrainingLines(load_recipe(recipe_file), report)
    display.on_progress(0, 12, "frozen features")
    display.on_start(None, RUN_METADATA)
    display.on_step(replace(STEP, done=7, total=100))
    assert report.call_args_list == [
        call(0, 12, "frozen features"),
        call(0, 0, "first training step"),
        call(7, 100, "training steps"),
    ]


def test_method_is_named(log):
    assert "  AdaptFormer  1,000 of" in log("peft.method=adaptformer", "meta=null")[0]


def test_json_has_null_for_nan_and_infinity(capsys, tmp_path):
    display = JsonLines()
    display.on_progress(0, 0, "weights")
    display.on_start(Run(tmp_path), RUN_METADATA)
    display.on_step(STEP)
    display.on_epoch_end(ROW | {"val_loss": math.inf}, {Site(3, "q"): 1.25})
    progress, started, step, epoch = map(
        json.loads, capsys.readouterr().out.splitlines()
    )
    assert progress == {"event": "progress", "task": "weights", "done": 0, "total": 0}
    assert started == {"event": "started", "run": str(tmp_path), **RUN_METADATA}
    assert step["event"] == "step" and step["inner_s"] == 0.2 and step["gpu_mb"] is None
    assert (
        epoch["val_loss"] is None
        and epoch["val_macro"] == 0.4
        and epoch["modulator"] == {"blocks.3.q": 1.25}
    )


def test_numbers_of_an_epoch_are_shown_as_people_count():
    assert format_cell("epoch", 0.0) == "1"
    assert format_cell("val_loss", 0.1234) == "0.123"
    assert format_cell("val_macro", 0.1234) == "12.3"
