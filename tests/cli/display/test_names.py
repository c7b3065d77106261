"""Names of files, classes, recipes and runs are printed as they are, whatever they contain."""

import ast
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import rich.text
from rich.table import Table

from rsft.cli.display import console
from tests.conftest import ROOT

ODD_NAMES = ("[/w]", "[red]bold", "[link=x]y", ":ship:", "[bold")


@pytest.mark.slow
def test_no_console_reads_markup():
    """A text that is not ours becomes no markup: neither a wrong name nor a MarkupError after the work is done."""
    for file in (ROOT / "rsft").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert name != "from_markup", f"{file}:{node.lineno}"
            if name in ("Console", "PlainConsole", "TextColumn"):
                assert keywords.get("markup") == "False", f"{file}:{node.lineno}"
            elif name in ("print", "log", "rule", "status"):
                assert keywords.get("markup", "False") == "False", f"{file}:{node.lineno}"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_tables_titles_and_lines(name, capsys):
    console.console.print(console.counts_table(f"1 chip in {name}", {name: {name: 1}}, heading=name))
    console.console.print(name)
    console.show_paths({"out": Path(name)})
    table = Table(name)
    table.add_column(console.two_lines(name, name))
    table.add_row(rich.text.Text(name, "bold"), name)
    console.console.print(table)
    assert capsys.readouterr().out.count(name) == 11


@pytest.fixture
def odd_folders(tmp_path):
    """Class folders whose names are markup; 8 training and 4 validation chips per class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for index, name in enumerate(("[w]", "[red]bold")):
            folder = tmp_path / "raw [red]" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 100, (32, 32)) + 100 * index
                cv2.imwrite(str(folder / f"[b]{number}.png"), image.astype(np.uint8))
    return tmp_path / "raw [red]"


@pytest.mark.slow
def test_all_commands_with_odd_names(rsft, odd_folders, recipe_file, tmp_path):
    root = "q[red][w]"
    code, printed = rsft("prepare", "folder", odd_folders, "--root", root)
    assert code == 0, printed
    assert f"24 chips in {tmp_path}/{root}" in printed or f"24 chips in {root}" in printed
    assert "[red]bold" in printed and "[w]" in printed
    assert "[red]bold" in rsft("data", "show", root)[1]
    assert rsft("audit", root)[0] == 0

    recipe = shutil.copy(recipe_file, tmp_path / "[red]recipe.yaml")
    code, printed = rsft("finetune", recipe, f"data.root='{root}'", "train.epochs=1", "name='[red]run'", "--no-report")
    assert code == 0, printed
    (run,) = (path.parent for path in (tmp_path / "runs").rglob("run.json"))
    assert str(run.relative_to(tmp_path)) in printed
    assert str(run.relative_to(tmp_path)) in rsft("runs", "ls")[1]
    assert "[red]bold" in rsft("bundle", "show", run)[1]
    code, printed = rsft("predict", run, f"{root}/chips/val", "-o", "z[red][w].csv")
    assert code == 0 and "z[red][w].csv" in printed and "[red]bold" in printed


def test_wrong_request_with_markup(rsft):
    code, printed = rsft("predict", "[/w]", "x.png", "-o", "x.csv")
    assert code == 2 and "[/w]" in printed
    code, printed = rsft("predict", "[/w]", "--[red]nothing[/w]")
    assert code == 2 and "Traceback" not in printed
