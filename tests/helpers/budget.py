"""Count what the package costs to read: python -m tests.helpers.budget compares with budget.json, --write replaces it.

A code line is a physical line that is not blank and neither a comment nor part of a docstring.
"""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.helpers.style import ROOT, Function, files_of, nodes_of

BUDGET = ROOT / "tests" / "budget.json"
PACKAGE = ROOT / "rsft"

Count = int | float
Budget = dict[str, Count | dict[str, Count]]


def code_lines(text: str, nodes: Iterable[ast.AST]) -> int:
    """Return the number of code lines of a module. All lines of another long string count."""
    rows = text.split("\n")
    lines = {number for number, row in enumerate(rows, 1) if row.strip() and row.lstrip()[0] != "#"}
    docstrings: set[int] = set()
    for node in nodes:
        value = node.value if isinstance(node, ast.Expr) else node
        if isinstance(value, ast.JoinedStr) or isinstance(getattr(value, "value", None), str | bytes):
            if isinstance(node, ast.Expr):
                docstrings.update(range(value.lineno, value.end_lineno + 1))
            elif value.end_lineno > value.lineno and any(quotes in rows[value.lineno - 1] for quotes in ("'''", '"""')):
                lines.update(range(value.lineno, value.end_lineno + 1))
    return len(lines - docstrings)


def import_lines(file: Path) -> int:
    """Return the number of lines of the imports at module level."""
    imports = [node for node in nodes_of(file)[0].body if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in imports)


def one_caller_share(files: list[Path]) -> float:
    """Return the share of functions whose name is used once in the package, apart from its definition.

    Names are counted, so a function with a common name counts as used more often than it is.
    """
    used: Counter[str] = Counter()
    defined: Counter[str] = Counter()
    for node in (node for file in files for node in nodes_of(file)):
        if isinstance(node, Function):
            defined[node.name] += 1
        elif isinstance(node, ast.Name):
            used[node.id] += 1
        elif isinstance(node, ast.Attribute):
            used[node.attr] += 1
    once = [name for name in defined if defined[name] == 1 and used[name] == 1 and not name.startswith("__")]
    return len(once) / defined.total()


def count_options() -> tuple[int, dict[str, int]]:
    """Return the number of commands, and the options of each command."""
    import typer
    from click import Command

    from rsft.cli import build_app

    options: dict[str, int] = {}

    def count(command: Command, name: str) -> None:
        commands = getattr(command, "commands", {})
        for key, member in commands.items():
            count(member, f"{name} {key}".strip())
        if not commands:
            options[name] = sum(parameter.param_type_name == "option" for parameter in command.params)

    count(typer.main.get_command(build_app()), "")
    return len(options), options


def count_recipe_keys() -> int:
    """Return the number of keys of a recipe, without those of components."""
    from pydantic import BaseModel

    from rsft.recipe.schema import Recipe

    def count(model: type[BaseModel]) -> int:
        fields = [field.annotation for field in model.model_fields.values()]
        return sum(count(x) if isinstance(x, type) and issubclass(x, BaseModel) else 1 for x in fields)

    return count(Recipe)


def measure() -> Budget:
    """Return all numbers of the budget, as they are now."""
    files = files_of(PACKAGE)
    texts = {file: file.read_text("utf-8") for file in files}
    code: Counter[str] = Counter()
    for file, text in texts.items():
        parts = file.relative_to(PACKAGE).parts
        code[parts[0] if len(parts) > 1 else "top level"] += code_lines(text, nodes_of(file))
    commands, options = count_options()
    tests = [file.read_text("utf-8") for file in files_of(ROOT / "tests")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        "code lines": code.total(),
        "code lines by package": dict(sorted(code.items())),
        "all lines": sum(len(text.splitlines()) for text in texts.values()),
        "files": sum(path.is_file() and "__pycache__" not in path.parts for path in PACKAGE.rglob("*")),
        "import lines, percent of code": round(100 * sum(map(import_lines, files)) / code.total(), 1),
        "functions with one caller, percent": round(100 * one_caller_share(files), 1),
        "code lines of tests": sum(code_lines(text, ast.walk(ast.parse(text))) for text in tests),
        "commands": commands,
        "options": sum(options.values()),
        "options of predict": options["predict"],
        "recipe keys": count_recipe_keys(),
        "mandatory dependencies": len(project["dependencies"]),
    }


def exceeded(budget: Budget, measured: Budget) -> list[str]:
    """Return one line for every number above its budget.

    Args:
        budget: the allowed numbers, as in budget.json.
        measured: the numbers now, with the same keys.
    """
    rows = []
    for key, value in measured.items():
        allowed = budget.get(key, 0)
        if isinstance(value, dict):
            assert isinstance(allowed, dict)
            limits = {name: allowed.get(name, 0) for name in value}
            rows += [f"{key}: {name}: {n} > {limits[name]}" for name, n in value.items() if n > limits[name]]
        elif isinstance(allowed, dict) or value > allowed:
            rows.append(f"{key}: {value} > {allowed}")
    return rows


def main() -> None:
    """Print the numbers above the budget; with --write, make today's numbers the budget."""
    measured = measure()
    if "--write" in sys.argv[1:]:
        BUDGET.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    rows = exceeded(json.loads(BUDGET.read_text("utf-8")), measured)
    print(*rows or ["within the budget"], sep="\n")


if __name__ == "__main__":
    main()
