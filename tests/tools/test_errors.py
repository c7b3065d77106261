"""Tools print expected errors without a traceback."""

import re
from pathlib import Path

import pytest

import tools.errors
from rsft.errors import RequestError
from tools.errors import explained_errors

ROOT = Path(tools.errors.__file__).parent


def test_an_error_of_rsft_ends_with_its_code_and_its_hint(capsys):
    with pytest.raises(SystemExit) as stop, explained_errors():
        raise RequestError("no such list", "lists/a.txt", "download it")
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: no such list",
        "where: lists/a.txt",
        "hint:  download it",
    ]


def test_a_missing_file_is_named(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop, explained_errors():
        (tmp_path / "a.csv").read_text()
    printed = capsys.readouterr().err
    assert (
        stop.value.code == 1
        and str(tmp_path / "a.csv") in printed
        and "Traceback" not in printed
    )


def test_a_fault_of_a_tool_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), explained_errors():
        raise ZeroDivisionError


def test_every_tool_of_typer_explains_its_errors():
    texts = {path.name: path.read_text("utf-8") for path in ROOT.rglob("*.py")}
    starts = {
        name: text
        for name, text in texts.items()
        if re.search(r"^ +typer\.run\(", text, re.MULTILINE)
    }
    assert len(starts) > 10
    assert [
        name
        for name, text in starts.items()
        if "with explained_errors():\n        typer.run(" not in text
    ] == []
