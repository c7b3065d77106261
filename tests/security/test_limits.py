"""docs/security.md states the limits of the code."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ROW = re.compile(r"\| [^|]+ \| [^|]+ \| ([\d,^]+) ?([KMG]iB|) \| `(\w+)` in `([\w/]+\.py)` \|")
LIMIT = re.compile(r"_?MAX_\w+")
ROWS = ROW.findall((ROOT / "docs/security.md").read_text("utf-8"))


def module(path):
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def test_the_table_is_found():
    table = (ROOT / "docs/security.md").read_text("utf-8").partition("| constant |")[2].partition("\n\n")[0]
    assert len(ROWS) == len(table.strip().splitlines()) - 1 > 30


@pytest.mark.parametrize(("text", "unit", "name", "path"), ROWS, ids=[f"{path}-{name}" for *_, name, path in ROWS])
def test_a_limit_has_its_value(text, unit, name, path):
    base, _, power = text.replace(",", "").partition("^")
    assert getattr(module(path), name) == int(base) ** int(power or 1) * UNITS[unit]


def test_all_limits_of_these_files_are_in_the_table():
    for path in {ROOT / path for *_, path in ROWS} | {*(ROOT / "rsft/utils/untrusted").glob("*.py")}:
        targets = re.findall(r"^((?:_?[A-Z][A-Z_]*, )*_?[A-Z][A-Z_]*) = ", path.read_text("utf-8"), re.MULTILINE)
        names = {name for target in targets for name in target.split(", ") if LIMIT.fullmatch(name)}
        assert names <= {name for *_, name, file in ROWS if ROOT / file == path}, path
