import io
import math

import pytest
from rich.console import Console

from rsft.live import LiveDisplay
from rsft.peft import Site
from rsft.recipe.load import load_recipe

FACTS = {
    "trained_parameters": 1000,
    "total_parameters": 2000,
    "train_chips": 40,
    "device": "cpu",
}
ROW = {
    "epoch": 0,
    "train_loss": 1.5,
    "meta_loss": math.nan,
    "val_loss": 1.25,
    "val_head": 0.5,
    "val_medium": math.nan,
    "val_tail": 0.25,
    "val_macro": 0.4,
    "val_micro": 0.45,
    "images_per_s": 30.0,
}


@pytest.fixture
def display(recipe_file):
    def make(terminal):
        return LiveDisplay(load_recipe(recipe_file), Console(file=io.StringIO(), width=120, force_terminal=terminal))

    return make


def test_one_line_an_epoch_in_a_log(display):
    shown = display(False)
    with shown:
        shown.started(None, FACTS)
        shown.stepped(0, 1, 5, 1.5, 30.0)
        shown.epoch_ended(ROW, {})
    lines = shown.console.file.getvalue().splitlines()
    assert lines[-1] == (
        "epoch 1  loss 1.500  val loss 1.250  head 50.0  tail 25.0  macro 40.0  overall 45.0  30 images/s"
    )
    assert "1,000 of 2,000 parameters trained" in " ".join(lines)


def test_terminal_shows_bar_table_and_modulator(display):
    shown = display(True)
    scales = {Site(block, "q"): 0.5 + block / 10 for block in range(8)}
    with shown:
        shown.started(None, FACTS)
        shown.stepped(0, 5, 5, 1.5, 30.0)
        shown.epoch_ended(ROW, scales)
        shown.live.refresh()
    text = shown.console.file.getvalue()
    assert "30 images/s" in text and "left" in text
    assert "strongest 7.q 1.20, 6.q 1.10, 5.q 1.00" in text
    assert "weakest 0.q 0.50, 1.q 0.60, 2.q 0.70" in text
