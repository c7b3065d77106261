"""Measure names and docstrings of the package."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

EMPTY_WORDS = {
    "found",
    "place",
    "facts",
    "told",
    "own",
    "known",
    "wanted",
    "each",
    "asked",
}
"""Words that say nothing about a value, so they are no names of variables or
arguments."""

PLAIN_RETURNS = {
    "None",
    "bool",
    "str",
    "int",
    "float",
    "Path",
    "Self",
    "NoReturn",
    "bytes",
    "AisMatch",
    "ChipStore",
    "Classifier",
    "Display",
    "Executor",
    "Figure",
    "Iterator[None]",
    "Learner",
    "LoadedEngine",
    "SceneLocations",
    "Table",
    "TrialOutcome",
}
"""Return types that the first line of a docstring explains."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class PublicFunction(NamedTuple):
    """A function or method that other modules may call."""

    node: Function
    arguments: tuple[str, ...]

    @property
    def doc(self) -> str:
        """The docstring, or an empty text."""
        return ast.get_docstring(self.node) or ""

    @property
    def needs_args(self) -> bool:
        """True if the function takes three arguments and is no command, whose docstring
        is its help text."""
        return len(self.arguments) >= 3 and not _is_command(self.node)

    @property
    def needs_returns(self) -> bool:
        """True if the first line alone cannot explain what comes back."""
        return (
            self.node.returns is not None
            and ast.unparse(self.node.returns) not in PLAIN_RETURNS
        )


def files_of(*paths: Path) -> list[Path]:
    """Return the Python files at or below `paths`."""
    return sorted(
        file
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*.py"))
    )


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of a file, its module first."""
    return tuple(ast.walk(ast.parse(file.read_text("utf-8"))))


def public_functions(files: list[Path]) -> Iterator[PublicFunction]:
    """Iterate over public functions of modules and public methods of public classes,
    without properties."""
    for file in files:
        tree = nodes_of(file)[0]
        classes = [
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and _is_public(node.name)
        ]
        for owner in (tree, *classes):
            for node in owner.body:
                if (
                    isinstance(node, Function)
                    and _is_public(node.name)
                    and not _is_accessor(node)
                ):
                    arguments = (
                        node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                    )
                    names = tuple(
                        x.arg for x in arguments if x.arg not in ("self", "cls")
                    )
                    yield PublicFunction(node, names)


def empty_names(files: list[Path]) -> list[str]:
    """Return "file:line: function: name" for every function that binds one of
    `EMPTY_WORDS`, once per name."""
    rows = []
    for file in files:
        for function in nodes_of(file):
            if isinstance(function, Function):
                stored = {
                    x.id
                    for x in ast.walk(function)
                    if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
                }
                names = EMPTY_WORDS & (
                    stored
                    | {x.arg for x in function.args.args + function.args.kwonlyargs}
                )
                where = f"{file.relative_to(ROOT)}:{function.lineno}: {function.name}"
                rows += [f"{where}: {name}" for name in sorted(names)]
    return rows


def repeated_names(files: list[Path]) -> dict[str, list[str]]:
    """Return public names of functions and classes that several modules define, each
    with those modules."""
    modules: dict[str, list[str]] = defaultdict(list)
    for file in files:
        for node in nodes_of(file)[0].body:
            if not isinstance(node, Function | ast.ClassDef) or (
                isinstance(node, Function) and _is_command(node)
            ):
                continue
            if _is_public(node.name):
                modules[node.name].append(str(file.relative_to(ROOT)))
    return {name: where for name, where in sorted(modules.items()) if len(where) > 1}


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _decorators(node: Function) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def _is_accessor(node: Function) -> bool:
    return any(
        x.endswith(("property", ".setter", "overload")) for x in _decorators(node)
    )


def _is_command(node: Function) -> bool:
    return any(
        x.split("(")[0].endswith((".command", ".callback")) for x in _decorators(node)
    )


OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
"""Public names with an underscore."""

PATCHES = {"setattr", "delattr", "getattr", "hasattr"}
"""Functions that take the name of an attribute as a text."""


def private_names(files: list[Path]) -> set[str]:
    """Return the names of functions, classes, variables and attributes of modules that
    begin with one underscore."""
    names = set()
    for file in files:
        for node in nodes_of(file):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
    private = {name for name in names if re.fullmatch(r"_[^_].*(?<!_)", name)}
    return private - OF_NAMED_TUPLES


def used_names(node: ast.AST) -> list[str]:
    """Return the names of other modules that a node imports, reads or patches."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rsft"):
        return [name.name for name in node.names]
    if isinstance(node, ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        return [] if owner in ("self", "cls") else [node.attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        texts = [x.value for x in node.args if isinstance(x, ast.Constant)]
        if name in PATCHES:
            return [x.rpartition(".")[2] for x in texts if isinstance(x, str)]
    return []


def unexplained_names(file: Path, names: set[str]) -> list[str]:
    """Return the names that a test uses without a comment in the statement of their
    first use, or in the line before it."""
    lines = file.read_text("utf-8").splitlines()
    explained: dict[str, bool] = {}
    rows = []
    nodes = [node for node in nodes_of(file) if hasattr(node, "lineno")]
    for node in sorted(nodes, key=lambda node: node.lineno):
        for name in names.intersection(used_names(node)) - explained.keys():
            around = lines[max(0, node.lineno - 3) : node.end_lineno]
            explained[name] = any("#" in line for line in around)
            if not explained[name]:
                rows.append(f"{file.relative_to(ROOT)}:{node.lineno}: {name}")
    return rows
