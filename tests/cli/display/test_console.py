import io
import time

import pytest
from rich.console import Console

from rsft.cli.display import console, failures, waiting
from rsft.cli.display.failures import quiet_console
from rsft.errors import Fault, RecipeError, RsftError
from tests.helpers.style import ROOT


@pytest.fixture
def printed(monkeypatch):
    text = io.StringIO()
    for name in ("console", "error_console"):
        monkeypatch.setattr(console, name, Console(file=text, width=100))
    return text


def test_a_table_of_many_classes_names_the_file_of_the_others(printed):
    counts = {f"class {number}": {"train": number} for number in range(1_000)}
    table = console.counts_table("chips", counts, location="all.csv")
    console.console.print(table)
    lines = printed.getvalue().splitlines()
    assert len(lines) <= 40 and lines[-2].strip() == "… 985 more in all.csv"
    assert table.row_count == console.FIRST_CLASSES + 1
    few = dict(list(counts.items())[: console.CLASSES_SHOWN])
    assert console.counts_table("", few, location="all.csv").row_count == len(few)
    assert console.counts_table("", counts).row_count == 1_000


def test_error_shows_message_location_and_hint(printed):
    failures.show_error(RsftError("it broke [here]", "a.tif", "fix it"))
    assert printed.getvalue().splitlines() == [
        "error: it broke [here]",
        "where: a.tif",
        "hint:  fix it",
    ]


def test_recipe_error_shows_every_fault(printed):
    failures.show_error(
        RecipeError([Fault("r.yaml", 3, "peft.rnk", "8", "did you mean peft.rank?")])
    )
    assert "r.yaml:3  peft.rnk  found 8" in printed.getvalue()
    assert "did you mean peft.rank?" in printed.getvalue()


def test_progress_is_silent_without_a_terminal(printed):
    with console.progress() as report:
        report(1, 2, "reading")
    assert printed.getvalue().strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quiet", "expected"), [(False, ["reading: 1 of 2"]), (True, [])]
)
def test_progress_without_a_terminal_is_a_line_on_stderr(
    monkeypatch, capsys, quiet, expected
):
    monkeypatch.setattr(waiting, "FIRST_LINE_SECONDS", 0.0)
    with quiet_console(quiet), console.progress() as report:
        report(1, 2, "reading")
        time.sleep(0.3)
    assert capsys.readouterr().err.splitlines() == expected


def test_the_bar_is_that_of_the_present_task(monkeypatch):
    terminal = console.PlainConsole(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(console, "console", terminal)
    with console.progress() as report:
        report(0, 0, "loading")
        report(3, 12, "classifying")
    last_picture = terminal.file.getvalue().rpartition("classifying")
    assert "3/12" in last_picture[2] and "loading" not in last_picture[0][-100:]


def test_the_used_bundle_is_named(capsys):
    bundle = ROOT / "tests/compat/0.2/run"
    console.show_used_bundle(bundle)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("bundle: ") and ", saved 20" in printed
    assert "classes cargo, fishing, tanker" in printed


@pytest.mark.parametrize("group", [(), ("data",), ("prepare",), ("runs",)])
def test_a_group_without_a_command_prints_its_help(rsft, group):
    code, printed = rsft(*group)
    assert code == 0 and "Usage: " in printed and "Commands:" in printed
