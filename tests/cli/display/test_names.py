"""Names of files, classes, recipes and runs are printed as they are, whatever they
contain."""

import ast
from pathlib import Path

import pytest
import rich.text
from rich.table import Table

from rsft.cli.display import console
from tests.conftest import ROOT
from tests.helpers.style import files_of, nodes_of

ODD_NAMES = ("[/w]", "[red]bold", "[link=x]y", ":ship:", "[bold")


@pytest.mark.slow
def test_no_console_reads_markup():
    """A text that is not ours becomes no markup: neither a wrong name nor a MarkupError
    after the work is done."""
    for file in files_of(ROOT / "rsft"):
        for node in nodes_of(file):
            if not isinstance(node, ast.Call):
                continue
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            keywords = {
                keyword.arg: getattr(keyword.value, "value", "")
                for keyword in node.keywords
            }
            assert name != "from_markup", f"{file}:{node.lineno}"
            if name in ("Console", "PlainConsole", "TextColumn"):
                assert keywords.get("markup") is False, f"{file}:{node.lineno}"
            elif name in ("print", "log", "rule", "status"):
                assert keywords.get("markup", False) is False, f"{file}:{node.lineno}"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_tables_titles_and_lines(name, capsys):
    console.console.print(console.counts_table(f"1 chip in {name}", {name: {name: 1}}))
    console.console.print(name)
    console.show_paths({"out": Path(name)})
    table = Table(name)
    table.add_column(console.two_lines(name, name))
    table.add_row(rich.text.Text(name, "bold"), name)
    console.console.print(table)
    assert capsys.readouterr().out.count(name) == 10


def test_wrong_request_with_markup(rsft):
    code, printed = rsft("predict", "[/w]", "x.png", "-o", "x.csv")
    assert code == 2 and "[/w]" in printed
    code, printed = rsft("predict", "[/w]", "--[red]nothing[/w]")
    assert code == 2 and "Traceback" not in printed
