"""Progress in a notebook: one output of the cell is replaced, without ipywidgets."""

import sys
from types import SimpleNamespace

import pytest
from rich.text import Text

from rsft.cli.display import console as display
from rsft.cli.display.console import LiveArea, PlainConsole, can_redraw
from rsft.cli.display.failures import quiet_console


@pytest.fixture
def shown(monkeypatch):
    """HTML of all displays and updates, in the order in which a notebook gets them."""
    outputs = []

    def show(item, display_id=False):
        outputs.append(item.html)
        return SimpleNamespace(update=lambda new: outputs.append(new.html))

    module = SimpleNamespace(HTML=lambda html: SimpleNamespace(html=html), display=show)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    console = PlainConsole(
        force_jupyter=True, highlight=False, markup=False, emoji=False
    )
    monkeypatch.setattr(display, "console", console)
    return outputs


@pytest.mark.parametrize("transient", [False, True])
def test_an_output_is_replaced(shown, transient):
    assert can_redraw(display.console)
    state = ["reading 1/2"]
    area = LiveArea(
        get_renderable=lambda: Text(state[0]),
        console=display.console,
        auto_refresh=False,
        transient=transient,
    )
    area.start()
    state[0] = "<b>\x1b[2J"
    area.refresh()
    area.refresh()  # unchanged
    area.stop()
    assert shown == [
        "<pre>reading 1/2\n</pre>",
        "<pre>&lt;b&gt;\\x1b[2J\n</pre>",
        *([""] * transient),
    ]


def test_bars_of_a_task(shown):
    with display.progress() as report:
        report(1, 4, "writing [chips]")
    assert len(shown) >= 2 and shown[-1] == ""
    with quiet_console(quiet=True), display.progress() as report:
        shown.clear()
        report(1, 4, "writing chips")
    assert shown == [] and not display.console.quiet
