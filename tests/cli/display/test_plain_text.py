"""Names cannot send escape sequences to the terminal, and cannot imitate lines of
rsft."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.table import Table
from rich.text import Text

from rsft.cli.display import console, failures
from rsft.cli.display.console import (
    PlainConsole,
    PlainFormatter,
    escape_controls,
    format_warning,
)
from rsft.errors import Fault, RecipeError, RsftError

HOSTILE = "\x1b]0;title\x07\x1b[2Jship\nerror: none\x9b1m\u202epihs\u2028\r\x08"
SHOWN = r"\x1b]0;title\x07\x1b[2Jship\nerror: none\x9b1m\u202epihs\u2028\r\x08"


def is_plain(text):
    return (
        escape_controls(text.replace("\n", "")) == text.replace("\n", "")
        and "\nerror: none" not in text
    )


def test_escape_controls():
    assert escape_controls(HOSTILE) == SHOWN
    assert escape_controls("货船 [red]\té") == "货船 [red]\té"


def test_lines_tables_and_errors(capsys):
    console.console.print(HOSTILE, soft_wrap=True)
    console.show_paths({"out": Path(HOSTILE)})
    console.console.print(console.counts_table(HOSTILE, {HOSTILE: {HOSTILE: 1}}))
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(console.two_lines(HOSTILE, HOSTILE))
    table.add_row(Text(HOSTILE.replace("\n", "")))
    console.console.print(table)
    failures.show_error(RsftError(HOSTILE, HOSTILE, HOSTILE))
    failures.show_error(RecipeError([Fault(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE)]))
    printed = capsys.readouterr()
    assert is_plain(printed.out) and is_plain(printed.err), printed.out + printed.err
    assert printed.out.count(SHOWN) >= 2 and printed.err.count(SHOWN) >= 4


def test_styles_of_rsft_stay(monkeypatch):
    monkeypatch.setattr(console.console, "_color_system", 1)
    with console.console.capture() as capture:
        console.console.print(Text("done", "green"))
    assert "\x1b[" in capture.get() or console.console.no_color


def test_lines_and_tables_are_not_cut_without_a_terminal(monkeypatch, capsys):
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    path = "runs/" + 40 * "long/" + "table.csv"
    table = Table("path", box=None)
    console = PlainConsole(highlight=False)
    table.add_row(path)
    console.print(f"table  {path}")
    console.print(table)
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        f"table  {path}",
        "path",
        path,
    ]
    monkeypatch.setenv("COLUMNS", "100")
    console.print(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_log_records():
    record = logging.LogRecord(
        "rsft", logging.WARNING, "f", 1, "%s is damaged", (HOSTILE,), None
    )
    assert PlainFormatter().format(record) == f"{SHOWN} is damaged"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "ship\nerror: none"])
def test_commands(rsft, tmp_path, name):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in (name, "b"):
            (tmp_path / "raw" / split / label).mkdir(parents=True)
            cv2.imwrite(
                str(tmp_path / "raw" / split / label / "x.png"),
                rng.integers(0, 255, (8, 8, 1), np.uint8),
            )
    (tmp_path / "raw/train/b" / f"{name}.png").touch()
    code, printed = rsft(
        "prepare", "folder", tmp_path / "raw", "--root", f"store{name}"
    )
    assert code == 0 and is_plain(printed) and escape_controls(name) in printed
    for command in (("data", "show"), ("data", "stats"), ("audit",)):
        code, printed = rsft(*command, f"store{name}")
        assert code == 0 and is_plain(printed), printed
    code, printed = rsft("finetune", f"x{name}")
    assert code == 2 and is_plain(printed), printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["backbones", "ls", f"--{HOSTILE}"],
        [f"--{HOSTILE}"],
        [HOSTILE],
        ["recipes", HOSTILE],
        ["recipes", "show", f"{HOSTILE}.yaml"],
    ],
    ids=["option", "option of rsft", "command", "subcommand", "recipe"],
)
def test_usage_errors(rsft, arguments):
    code, printed = rsft(*arguments)
    assert code == 2 and r"\x1b" in printed and is_plain(printed), printed


def test_recipes_show(rsft, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "name: a  # \x1b]0;title\x07\x9b1m\u202e\u2028\x08\n"
    )
    code, printed = rsft("recipes", "show", tmp_path / "a.yaml")
    assert code == 0 and r"\x1b]0;title" in printed and is_plain(printed), printed


def test_warnings():
    assert (
        format_warning(UserWarning(HOSTILE), UserWarning, "f.py", 1)
        == f"UserWarning: {SHOWN}\n"
    )


@pytest.mark.parametrize(
    ("variables", "is_terminal"),
    [
        ({"FORCE_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, True),
    ],
)
def test_a_notebook_that_forces_colors_gets_no_control_codes(
    tmp_path, monkeypatch, variables, is_terminal
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "out.txt").open("w+", encoding="utf-8") as file:
        console = PlainConsole(file=file)
        assert (console.is_terminal, console.is_interactive) == (
            is_terminal,
            is_terminal,
        )
    assert PlainConsole(file=file).is_terminal is is_terminal  # a closed file
