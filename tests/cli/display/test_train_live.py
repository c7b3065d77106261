import io

import pytest
from rich.console import Console

from rsft.cli.display.training import (
    Display,
    JsonLines,
    LiveDisplay,
    LogLines,
    choose_display,
)
from rsft.peft import Site
from rsft.recipe.load import load_recipe
from tests.helpers.event_lines import ROW, RUN_METADATA, STEP


def console(**options):
    return Console(file=io.StringIO(), width=120, **options)


def test_terminal_shows_bar_table_and_modulator(recipe_file):
    display = LiveDisplay(load_recipe(recipe_file), console(force_terminal=True))
    scales = {Site(block, "q"): 0.5 + block / 10 for block in range(8)}
    with display:
        display.on_start(None, RUN_METADATA)
        display.on_step(STEP)
        display.on_epoch_end(ROW, scales)
        display.live.refresh()
    text = display.live.console.file.getvalue()
    assert "LoRA with a modulator" in text
    assert (
        "30 images/s  260 ms/step (10 data + 200 inner + 50 outer)  0.8 GB  0:01:15"
        " left" in text
    )
    assert "largest 7.q 1.20, 6.q 1.10, 5.q 1.00" in text
    assert "smallest 0.q 0.50, 1.q 0.60, 2.q 0.70" in text


@pytest.mark.parametrize(
    ("options", "flags", "kind"),
    [
        ({"force_terminal": True}, {}, LiveDisplay),
        ({"force_terminal": False}, {}, LogLines),
        ({"force_terminal": True, "_environ": {"TERM": "dumb"}}, {}, LogLines),
        ({"force_terminal": True}, {"quiet": True}, Display),
        ({"force_terminal": True}, {"as_json": True}, JsonLines),
    ],
)
def test_display_depends_on_terminal_and_flags(recipe_file, options, flags, kind):
    flags = {"quiet": False, "as_json": False} | flags
    assert (
        type(
            choose_display(
                load_recipe(recipe_file), console(**options), every=50, **flags
            )
        )
        is kind
    )


def test_only_rank_zero_has_a_display(recipe_file, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    display = choose_display(
        load_recipe(recipe_file), console(), quiet=False, as_json=True, every=50
    )
    assert type(display) is Display
