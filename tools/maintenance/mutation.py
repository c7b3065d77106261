"""Change random lines of rsft, run the tests of each, and list the changes that no test notices.

A change swaps a comparison, an operator or a condition, or adds 1 to a number. The
tests that run are the file of the changed module's name and then its folder in tests/,
which mirrors rsft/. A change that survives asks for a test, or shows code that has no
effect.

    python -m tools.maintenance.mutation --seed 1 --count 40

A line may have tests elsewhere. If a file of pytest-cov says which lines each test
runs, these tests run as well before a change survives:

    RSFT_FENCE=off OMP_NUM_THREADS=1 COVERAGE_FILE=/tmp/lines pytest -n auto \
        --cov=rsft --cov-context=test --cov-report= -m "not exhaustive"
    python -m tools.maintenance.mutation --seed 1 --count 40 --lines /tmp/lines
"""

from __future__ import annotations

import argparse
import ast
import random
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from coverage import CoverageData

ROOT = Path(__file__).parents[2]

_COMPARISONS = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
)
_OPERATORS = (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or)
SWAPS: dict[type[ast.AST], Any] = {
    a: b for pair in (*_COMPARISONS, *_OPERATORS) for a, b in (pair, pair[::-1])
}


class Mutation(NamedTuple):
    """A change of one line.

    Attributes:
        file: the module.
        line: number of the line, from 1.
        old: the expression before.
        new: the expression after.
        text: the whole module after.
    """

    file: Path
    line: int
    old: str
    new: str
    text: str

    def __str__(self) -> str:
        """Return "file:line: old -> new"."""
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.old}  ->  {self.new}"


def mutated(node: ast.expr) -> ast.expr | None:
    """Return a changed copy of an expression; None if it is of no kind that is changed."""
    changed = deepcopy(node)
    if isinstance(changed, ast.Compare) and type(changed.ops[0]) in SWAPS:
        changed.ops[0] = SWAPS[type(changed.ops[0])]()
    elif isinstance(changed, ast.BinOp | ast.BoolOp) and type(changed.op) in SWAPS:
        changed.op = SWAPS[type(changed.op)]()
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not):
        return changed.operand
    elif isinstance(changed, ast.Constant) and type(changed.value) in (int, float):
        changed.value = changed.value + 1  # type: ignore[operator]  # a number, as checked
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, bool):
        changed.value = not changed.value
    else:
        return None
    return changed


def mutations(file: Path) -> Iterator[Mutation]:
    """Iterate over all changes of the functions of a module, without annotations."""
    text = file.read_text("utf-8")
    tree = ast.parse(text)
    annotations = [
        getattr(x, name, None)
        for x in ast.walk(tree)
        for name in ("annotation", "returns")
    ]
    skipped = {id(y) for x in annotations if x is not None for y in ast.walk(x)}
    functions = [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef)]
    for node in {
        id(y): y for x in functions for y in ast.walk(x) if isinstance(y, ast.expr)
    }.values():
        if id(node) in skipped or node.lineno != node.end_lineno:
            changed = None
        else:
            changed = mutated(node)
        if changed is not None:
            lines = text.encode().split(b"\n")
            line = lines[node.lineno - 1]
            old = line[node.col_offset : node.end_col_offset].decode()
            new = f"({ast.unparse(changed)})"
            lines[node.lineno - 1] = (
                line[: node.col_offset] + new.encode() + line[node.end_col_offset :]
            )
            yield Mutation(file, node.lineno, old, new, b"\n".join(lines).decode())


def tests_of(file: Path) -> list[Path]:
    """Return the tests of a module, those that run first at the front.

    They are the test file of its name, and the folder of tests that mirrors its folder,
    or the next parent that exists.
    """
    folder = ROOT / "tests" / file.parent.relative_to(ROOT / "rsft")
    named = folder / f"test_{file.name}"
    while not folder.is_dir():
        folder = folder.parent
    return [path for path in (named, folder) if path.exists()]


def tests_of_line(mutation: Mutation, lines: CoverageData) -> list[str]:
    """Return the tests outside of the mirroring folder that run a line.

    Args:
        mutation: a change of the line.
        lines: lines that each test runs; their paths may be those of another checkout.
    """
    name = mutation.file.relative_to(ROOT).as_posix()
    mirroring = f"{tests_of(mutation.file)[-1].relative_to(ROOT).as_posix()}/"
    found: set[str] = set()
    for path in lines.measured_files():
        if path.endswith(f"/{name}"):
            contexts = lines.contexts_by_lineno(path).get(mutation.line, [])
            found.update(context.partition("|")[0] for context in contexts)
    return sorted(test for test in found if test and not test.startswith(mirroring))


def survives(
    mutation: Mutation, limit: float, lines: CoverageData | None = None
) -> bool:
    """Return whether the tests pass with a change.

    The file is restored, also after Ctrl-C.

    Args:
        mutation: the change.
        limit: seconds for each group of tests. A change that makes the tests of its
            module take longer counts as noticed; other tests that take longer do not
            notice it.
        lines: lines that each test runs.
    """
    before = mutation.file.read_bytes()
    try:
        mutation.file.write_text(mutation.text, encoding="utf-8")
        for path in tests_of(mutation.file):
            if _exit_code([str(path)], limit) != 0:
                return False
        others = tests_of_line(mutation, lines) if lines else []
        # other exit codes, such as that of a test that is gone, are no failures
        return not others or _exit_code(others, limit) != pytest.ExitCode.TESTS_FAILED
    finally:
        mutation.file.write_bytes(before)


def _exit_code(tests: list[str], limit: float) -> int | None:
    """Return the exit code of pytest; None if the tests take longer than `limit`."""
    options = ["-x", "-q", "-p", "no:nbmake", "-m", "not exhaustive", *tests]
    command = [sys.executable, "-m", "pytest", *options]
    try:
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return result.returncode


def main() -> None:
    """Try the changes, and print those that no test noticed; exit with 1 if there is one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="source of the random choice (default: 1)"
    )
    parser.add_argument(
        "--count", type=int, default=40, help="number of changes (default: 40)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=600,
        help="seconds for the tests of one change (default: 600)",
    )
    parser.add_argument(
        "--lines", help="file of pytest-cov with the lines that each test runs"
    )
    options = parser.parse_args()
    lines = None
    if options.lines:
        lines = CoverageData(options.lines)
        lines.read()
    rng = random.Random(options.seed)
    files = sorted((ROOT / "rsft").rglob("*.py"))
    survivors = []
    for number in range(options.count):
        choices = list(mutations(rng.choice(files)))
        if not choices:
            continue
        mutation = rng.choice(choices)
        alive = survives(mutation, options.limit, lines)
        survivors += [mutation] if alive else []
        print(
            f"{number + 1}/{options.count}  {'SURVIVES' if alive else 'noticed '} "
            f" {mutation}",
            flush=True,
        )
    print(f"{len(survivors)} changes were not noticed", *survivors, sep="\n  ")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
