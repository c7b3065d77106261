"""docs/security.md states the limits of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ROW = re.compile(r"\| [^|]+ \| [^|]+ \| ([\d,^]+) ?([KMG]iB|) \| `(\w+)` in `([\w/]+\.py)` \|")
LIMIT = re.compile(r"_?MAX_\w+")
ROWS = ROW.findall((ROOT / "docs/security.md").read_text("utf-8"))


def module(path: str) -> object:
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def test_the_table_is_found() -> None:
    table = (ROOT / "docs/security.md").read_text("utf-8").partition("| constant |")[2].partition("\n\n")[0]
    assert len(ROWS) == len(table.strip().splitlines()) - 1 > 30


@pytest.mark.parametrize(("text", "unit", "name", "path"), ROWS, ids=[f"{path}-{name}" for *_, name, path in ROWS])
def test_a_limit_has_its_value(text: str, unit: str, name: str, path: str) -> None:
    base, _, power = text.replace(",", "").partition("^")
    assert getattr(module(path), name) == int(base) ** int(power or 1) * UNITS[unit]


@pytest.mark.parametrize(
    "path",
    sorted(
        {path for *_, path in ROWS}
        | {str(path.relative_to(ROOT)) for path in (ROOT / "rsft/utils/untrusted").glob("*.py")}
    ),
)
def test_all_limits_of_these_files_are_in_the_table(path: str) -> None:
    code = (ROOT / path).read_text("utf-8")
    targets = re.findall(r"^((?:_?[A-Z][A-Z_]*, )*_?[A-Z][A-Z_]*) = ", code, re.MULTILINE)
    names = {name for target in targets for name in target.split(", ") if LIMIT.fullmatch(name)}
    assert names <= {name for *_, name, file in ROWS if file == path}
