"""The package keeps the structure that docs/architecture.md describes: layers, sizes,
names and docstrings."""

from __future__ import annotations

import ast
import json
import re

import pytest

from tests.helpers import budget
from tests.helpers.style import (
    ROOT,
    empty_names,
    files_of,
    nodes_of,
    private_names,
    public_functions,
    repeated_names,
    unexplained_names,
)

PACKAGE = ROOT / "rsft"
FILES = files_of(PACKAGE)
PACKAGES = sorted(
    path.name
    for path in PACKAGE.iterdir()
    if path.is_dir() and path.name[0] not in "_."
)
ROWS = re.findall(
    r"^\| `([\w.]+)` \| [^|]* \| ([^|]*) \|$",
    (ROOT / "docs/architecture.md").read_text(),
    re.MULTILINE,
)
ALLOWED = {
    package: set(re.findall(r"`([\w.]+)`", targets)) for package, targets in ROWS
}
EVERYWHERE = {"errors", "types", "version"}

REPEATED = {
    "finetune": (
        "rsft.finetune does what the command does; that of rsft.training only trains"
    )
}
"""Public names that several modules define, each with the reason."""


def module_name(file):
    """Return the dotted name of a module below the repository root."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def imports(file, modules):
    """Iterate over the modules of rsft that a file imports."""
    for node in nodes_of(file):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "rsft"
        ):
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                if submodule in modules:
                    yield submodule
                elif node.module != "rsft":
                    yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (
                name.name for name in node.names if name.name.startswith("rsft.")
            )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_table_allows(package):
    modules = {module_name(file) for file in FILES}
    allowed = ALLOWED[package]
    if allowed == {"everything"}:
        return
    for file in files_of(PACKAGE / package):
        for module in imports(file, modules):
            target = module.removeprefix("rsft.")
            names = {target[: match.start()] for match in re.finditer(r"\.|$", target)}
            assert names & (allowed | EVERYWHERE | {package}), (
                f"{file} imports {module}"
            )


def find_circle(graph):
    """Return the nodes from which no way down ends: those of circles, and those above."""
    graph = dict(graph)
    while leaves := [
        node for node, targets in graph.items() if not (targets - {node}) & set(graph)
    ]:
        for node in leaves:
            del graph[node]
    return sorted(graph)


@pytest.mark.slow
def test_no_import_circle():
    """Imports inside functions and those for types alone count. The public names of
    rsft are all below it."""
    modules = {module_name(file) for file in FILES}
    graph = {module_name(file): set(imports(file, modules)) & modules for file in FILES}
    del graph["rsft"]
    assert not find_circle(graph)


@pytest.mark.slow
def test_no_import_goes_up_inside_a_package():
    """A room of a package is a module or a sub-package of it. Each stands above all
    rooms that it imports, also inside functions and for types alone."""
    modules = {module_name(file) for file in FILES}
    arrows = [
        (module_name(file), module)
        for file in FILES
        for module in imports(file, modules)
    ]
    for package in {module_name(file.parent / "__init__.py") for file in FILES}:
        prefix = f"{package}."
        rooms = {}
        for source, target in arrows:
            if source.startswith(prefix) and target.startswith(prefix):
                room, other = (
                    x.removeprefix(prefix).split(".")[0] for x in (source, target)
                )
                rooms.setdefault(room, set()).add(other)
        assert not find_circle(rooms), package


@pytest.mark.slow
def test_the_budget_is_kept():
    """A number may fall freely. To raise one, change budget.json in the same commit,
    and say why in its message."""
    rows = budget.exceeded(
        json.loads(budget.BUDGET.read_text("utf-8")), budget.measure()
    )
    assert not rows, "\n".join(rows)


def test_the_budget_names_what_is_exceeded():
    allowed: budget.Budget = {"nodes": 10, "options": 4}
    measured: budget.Budget = {"nodes": 11, "options": 4, "commands": 1}
    assert budget.exceeded(allowed, measured) == ["nodes: 11 > 10", "commands: 1 > 0"]
    assert budget.exceeded(allowed, allowed) == []


def test_lines_and_texture_are_counted():
    text = (
        '"""Doc."""\n\nimport os  # why\n\n# comment\nx = [\n    """a\n\n# b""",\n]\n'
        '"""About x."""\n'
    )
    assert budget.count_code_lines(text) == 6
    function = "def f(a):\n    b, c = a, 1\n    return b if (d := c) and a else d\n"
    texture = budget.measure_texture([function])
    assert texture == {
        "nodes a line": 5.67,
        "expressions a statement, median": 6,
        "expressions a statement, tenth largest": 6,
        "lines a function, tenth largest": 3,
        "functions above 60 lines": 0,
        "functions above complexity 10, percent": 0,
        "conditional expressions, per 1,000 lines": 333.3,
        "pairs assigned in one line, per 1,000 lines": 333.3,
        "walrus, per 1,000 lines": 333.3,
        "nested comprehensions, per 1,000 lines": 0,
        "unpacked generators, per 1,000 lines": 0,
    }
    assert budget.complexity(ast.parse(function)) == 3


def test_only_plug_ins_import_plug_ins():
    modules = {module_name(file) for file in FILES}
    for file in FILES:
        if PACKAGE / "plugins" not in file.parents:
            for module in imports(file, modules):
                assert not module.startswith("rsft.plugins"), f"{file}: {module}"


def test_every_group_of_plug_ins_is_documented():
    page = (ROOT / "docs/architecture.md").read_text()
    listed = set(re.findall(r"`(rsft\.\w+)`", page.partition("The groups are ")[2]))
    readers = [file for file in FILES if "plugins" not in file.parts]
    readers += files_of(ROOT / "tools")
    texts = [file.read_text("utf-8") for file in readers]
    groups = re.findall(
        r'(?:Registry(?:\[.*\])?\(\s*"[^"]*",\s*|entry_points_of\(|GROUP = )"(rsft\.\w+)"',
        "\n".join(texts),
    )
    for file in PACKAGE.glob("plugins/*/plugin.toml"):
        groups += re.findall(r'entry-points\."(rsft\.\w+)"', file.read_text("utf-8"))
    assert listed == set(groups)


def test_peft_needs_torch_alone():
    for file in files_of(PACKAGE / "peft"):
        statements = [
            node
            for node in nodes_of(file)
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        modules = {
            n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name
            for n in statements
        }
        assert not {m.split(".")[0] for m in modules} & {
            "timm",
            "numpy",
            "lightning",
            "torchgeo",
            "pydantic",
        }


def test_the_top_level_is_small():
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    # the table lists every package
    assert sorted(ALLOWED) == PACKAGES and len(PACKAGES) <= 16
    assert modules == {"__main__.py", "errors.py", "types.py", "version.py"}


def test_lines_of_the_package_have_88_columns():
    for file in FILES:
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            code = re.split("  # (?:noqa|type: ignore)", line)[0]
            assert len(code) <= 88 or "https://" in code, f"{file}:{number}"


def test_tests_stand_in_files_of_the_names_of_the_modules():
    """At most 5 % of the modules have none: tests/<folder>/test_<module>.py."""
    modules = [
        file for file in FILES if file.name not in ("__init__.py", "__main__.py")
    ]
    untested = []
    for file in modules:
        folder = ROOT / "tests" / file.parent.relative_to(PACKAGE)
        if not (folder / f"test_{file.name}").is_file():
            untested.append(str(file.relative_to(ROOT)))
    assert len(untested) <= 0.05 * len(modules), "\n".join(untested)


@pytest.mark.slow
def test_private_names_in_tests_are_explained():
    """A test uses a private name of rsft only where a comment says why."""
    names = private_names(FILES)
    rows = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        rows += unexplained_names(file, names)
    assert not rows, "\n".join(rows)


def test_a_private_name_without_a_comment_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.helpers.style.ROOT", tmp_path)
    (tmp_path / "rsft.py").write_text("_LIMIT = 1\n\n\ndef _read(): ...\n")
    names = private_names([tmp_path / "rsft.py"])
    assert names == {"_LIMIT", "_read"}
    (tmp_path / "test_a.py").write_text(
        "x._read()\nself._read()\ny = 0\n\n\n# few are enough\n"
        "monkeypatch.setattr('rsft._LIMIT', 2)\nx._LIMIT\n"
    )
    assert unexplained_names(tmp_path / "test_a.py", names) == ["test_a.py:1: _read"]


@pytest.mark.slow
def test_names_are_no_empty_words_and_unique():
    assert len(rows := empty_names(FILES)) < 30, "\n".join(rows[:40])
    assert len(REPEATED) < 10
    assert repeated_names(FILES).keys() <= REPEATED.keys()


@pytest.mark.slow
def test_docstrings_have_their_sections():
    """A method without a docstring overrides one that has it, and a function of two
    parameters says it in a line."""
    needs_args = [
        function
        for function in public_functions(FILES)
        if function.doc and function.needs_args
    ]
    needs_returns = [function for function in needs_args if function.needs_returns]
    assert sum("Args:" in function.doc for function in needs_args) >= 0.8 * len(
        needs_args
    )
    with_returns = sum(
        "Returns:" in function.doc or "Yields:" in function.doc
        for function in needs_returns
    )
    assert with_returns >= 0.7 * len(needs_returns)
