"""Count what the package costs to read: python -m tests.helpers.budget compares with
budget.json, --write replaces it.

A node is a Python expression or statement, however it is wrapped. A code line has a
token that is neither comment nor docstring. The expressions of a statement are those of
an assignment, a return or a call.
"""

from __future__ import annotations

import ast
import io
import json
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.helpers.style import ROOT, Function, files_of, nodes_of

BUDGET = ROOT / "tests" / "budget.json"
PACKAGE = ROOT / "rsft"
PLUGINS = PACKAGE / "plugins"

Count = int | float
Budget = dict[str, Count]

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SIMPLE_STATEMENTS = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return | ast.Expr
_BRANCHES = (
    ast.If
    | ast.For
    | ast.While
    | ast.IfExp
    | ast.ExceptHandler
    | ast.Assert
    | ast.match_case
)


def _has_constant(node: ast.AST) -> bool:
    return isinstance(getattr(node, "value", None), ast.Constant)


def _is_pair(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
        and len(node.value.elts) == len(node.targets[0].elts)
    )


def _is_unpacked_generator(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.GeneratorExp)
    )


HABITS: dict[str, Callable[[ast.AST], bool]] = {
    "conditional expressions": lambda node: isinstance(node, ast.IfExp),
    "pairs assigned in one line": _is_pair,
    "walrus": lambda node: isinstance(node, ast.NamedExpr),
    "nested comprehensions": lambda node: (
        isinstance(node, _COMPREHENSIONS) and len(node.generators) > 1
    ),
    "unpacked generators": _is_unpacked_generator,
}
"""Habits that save lines and cost the reader; counted per 1,000 code lines."""


def count_code_lines(text: str) -> int:
    """Return the number of lines with a token that is neither comment nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and _has_constant(node):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def complexity(function: ast.AST) -> int:
    """Return 1 plus the number of branches of a function."""
    branches = 1
    for node in ast.walk(function):
        if isinstance(node, _BRANCHES):
            branches += 1
        elif isinstance(node, ast.comprehension):
            branches += 1 + len(node.ifs)
        elif isinstance(node, ast.BoolOp):
            branches += len(node.values) - 1
    return branches


def count_function_lines(function: Function) -> int:
    """Return the number of lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    docstring = ast.get_docstring(function, clean=False)
    if docstring is None:
        return lines
    return lines - docstring.count("\n") - 1


def count_nodes(files: list[Path]) -> int:
    """Return the number of expressions and statements in `files`."""
    kinds = (ast.expr, ast.stmt)
    return sum(isinstance(node, kinds) for file in files for node in nodes_of(file))


def measure_texture(texts: list[str]) -> Budget:
    """Return how densely modules are written: nodes a line, expressions a statement,
    complexity of functions, and habits."""
    code_lines = 0
    nodes = 0
    habits: Counter[str] = Counter()
    statements: list[int] = []
    complexities: list[int] = []
    lengths: list[int] = []
    for text in texts:
        code_lines += count_code_lines(text)
        for node in ast.walk(ast.parse(text)):
            nodes += isinstance(node, ast.expr | ast.stmt)
            for habit, has_habit in HABITS.items():
                habits[habit] += has_habit(node)
            if isinstance(node, Function):
                complexities.append(complexity(node))
                lengths.append(count_function_lines(node))
            elif isinstance(node, _SIMPLE_STATEMENTS) and not _has_constant(node):
                parts = ast.walk(node)
                statements.append(sum(isinstance(x, ast.expr) for x in parts))
    statements.sort()
    lengths.sort()
    complex_share = sum(value > 10 for value in complexities) / len(complexities)
    texture: Budget = {
        "nodes a line": round(nodes / code_lines, 2),
        "expressions a statement, median": statements[(len(statements) - 1) // 2],
        "expressions a statement, tenth largest": statements[
            9 * (len(statements) - 1) // 10
        ],
        "lines a function, tenth largest": lengths[9 * (len(lengths) - 1) // 10],
        "functions above 60 lines": sum(length > 60 for length in lengths),
        "functions above complexity 10, percent": round(100 * complex_share, 1),
    }
    for habit in HABITS:
        texture[f"{habit}, per 1,000 lines"] = round(
            1000 * habits[habit] / code_lines, 1
        )
    return texture


def count_options() -> dict[str, int]:
    """Return the number of options of each command."""
    import typer
    from click import Command

    from rsft.cli import build_app

    options: dict[str, int] = {}

    def count(command: Command, name: str) -> None:
        commands = getattr(command, "commands", {})
        for key, member in commands.items():
            count(member, f"{name} {key}".strip())
        if not commands:
            options[name] = sum(
                parameter.param_type_name == "option" for parameter in command.params
            )

    count(typer.main.get_command(build_app()), "")
    return options


def count_recipe_keys() -> int:
    """Return the number of keys of a recipe, without those of components."""
    from pydantic import BaseModel

    from rsft.recipe.schema import Recipe

    def count(model: type[BaseModel]) -> int:
        keys = 0
        for field in model.model_fields.values():
            section = field.annotation
            is_section = isinstance(section, type) and issubclass(section, BaseModel)
            keys += count(section) if is_section else 1
        return keys

    return count(Recipe)


def measure() -> Budget:
    """Return all numbers of the budget, as they are now."""
    files = files_of(PACKAGE)
    plugins = [file for file in files if PLUGINS in file.parents]
    nodes = count_nodes(files)
    nodes_of_plugins = count_nodes(plugins)
    options = count_options()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        "nodes": nodes,
        "nodes of the core": nodes - nodes_of_plugins,
        "nodes of plug-ins": nodes_of_plugins,
        **measure_texture([file.read_text("utf-8") for file in files]),
        "commands": len(options),
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
    return [
        f"{key}: {value} > {budget.get(key, 0)}"
        for key, value in measured.items()
        if value > budget.get(key, 0)
    ]


def main() -> None:
    """Print the numbers above the budget; with --write, make today's numbers the
    budget."""
    measured = measure()
    if "--write" in sys.argv[1:]:
        BUDGET.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    rows = exceeded(json.loads(BUDGET.read_text("utf-8")), measured)
    print(*rows or ["within the budget"], sep="\n")


if __name__ == "__main__":
    main()
