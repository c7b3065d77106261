"""A new PEFT method, loss, engine or data set costs as many files as docs/architecture.md says, and then works.

The tests change a copy of the repository as a contributor would, count the changed files, and use the new components in
processes that import rsft from the copy. Only files that rsft generates may change beyond the count.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.helpers import toy_components as toy
from tests.helpers.bars_recipe import BARS_RECIPE

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (an? [\w ]+) \| (\d+) \| (.*) \|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M)
COSTS = {name: int(count) for name, count, _ in ROWS}
"""Number of files by what is added, from the table in docs/architecture.md."""

GENERATED = ("docs/recipes.md", "tests/snapshots/")
"""Files that a command writes; see "What a change costs"."""


def insert(file: Path, anchor: str, text: str) -> None:
    """Insert a text behind every occurrence of another text in a file."""
    content = file.read_text("utf-8")
    assert anchor in content, f"{file.name} has no {anchor!r}; change the anchor in this test"
    file.write_text(content.replace(anchor, anchor + text), encoding="utf-8")


def insert_row(file: Path, table: str, row: str) -> None:
    """Insert a row at the top of a Markdown table; `table` is the first cell of its header."""
    content, count = re.subn(rf"^\| {table} \|.*\n\|[-|]+\n", rf"\g<0>{row}\n", file.read_text("utf-8"), flags=re.M)
    assert count == 1, f"{file.name} has {count} tables whose header begins with {table}"
    file.write_text(content, encoding="utf-8")


def append(file: Path, text: str) -> None:
    """Append a text to a file."""
    file.write_text(file.read_text("utf-8") + text, encoding="utf-8")


def add_method(root: Path) -> None:
    """Add a PEFT method: its class, its module, a row of the matrix."""
    (root / "rsft/peft/methods/toy.py").write_text(toy.METHOD)
    (root / "rsft/peft/modules/toy.py").write_text(toy.MODULE)
    matrix = root / "tests/peft/test_matrix.py"
    insert(
        matrix, "from rsft.peft.kernels.matmul import matmul_linear\n", "from rsft.peft.methods.toy import ToyTuning\n"
    )
    insert(matrix, '    "full": FullTuning(),\n', '    "toy": ToyTuning(blocks="last:2", bound=0.5),\n')
    insert(matrix, '"linear-probe", "full"', ', "toy"')


def add_loss(root: Path) -> None:
    """Add a loss: its class, a row of the test."""
    append(root / "rsft/training/optim/losses.py", toy.LOSS)
    insert(root / "tests/training/optim/test_losses.py", '        ("lade", 2.5371),\n', '        ("toy", 1.4882),\n')


def add_engine(root: Path) -> None:
    """Add an engine: its class, its extra, its rows of the test and of the documentation."""
    (root / "rsft/inference/engines/toy.py").write_text(toy.ENGINE)
    insert(root / "pyproject.toml", "[project.optional-dependencies]\n", 'toy = ["safetensors>=0.4.3"]\n')
    insert_row(root / "docs/engines.md", "`--engine`", "| `toy` | fp32 | Toy Runtime |")
    insert_row(root / "docs/engines.md", "`--format`", "| `toy` | fp32 | `toy.pt2` | graph for the Toy Runtime |")
    insert(root / "tests/inference/engines/test_graph_engines.py", '"onnx", "openvino", "torch-export"', ', "toy"')


def add_data_set(root: Path) -> None:
    """Add a data set: its class, its build, its command, a test, an example of the command."""
    (root / "rsft/data/datasets/toy.py").write_text(toy.DATASET)
    (root / "rsft/data/prepare/toy.py").write_text(toy.PREPARE)
    append(root / "rsft/cli/prepare.py", toy.COMMAND)
    (root / "tests/data/prepare/test_toy.py").write_text(toy.DATASET_TEST)
    append(root / "docs/data.md", "\n### toy\n\n    $ rsft prepare toy RAW/toy --root data/toy\n")


ADDITIONS: dict[str, Callable[[Path], None]] = {
    "a PEFT method": add_method,
    "a loss": add_loss,
    "an engine": add_engine,
    "a data set": add_data_set,
}


class ChangedCopy(NamedTuple):
    """A copy of the repository with all additions.

    Attributes:
        root: folder of the copy.
        changed: paths of the changed files, by what was added.
    """

    root: Path
    changed: dict[str, list[str]]

    def run(self, folder: Path, *arguments: object, **variables: str) -> str:
        """Run Python with rsft of the copy in a new process; return what it prints."""
        environment = os.environ | {"PYTHONPATH": str(self.root), "COLUMNS": "200", "OMP_NUM_THREADS": "1"} | variables
        environment |= {"XDG_CACHE_HOME": str(self.root.parent / "cache"), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, *map(str, arguments)]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def rsft(self, folder: Path, *arguments: object) -> str:
        """Run a command of the copy's rsft in a new process; return what it prints."""
        return self.run(folder, "-m", "rsft", *arguments)


def contents(root: Path) -> dict[str, bytes]:
    """Return the content of every source file by path."""
    files = [path for path in root.rglob("*") if path.is_file()]
    hidden = ("__pycache__", ".hypothesis", ".pytest_cache")
    relative = {path.relative_to(root): path for path in files}
    return {name.as_posix(): path.read_bytes() for name, path in relative.items() if not set(hidden) & set(name.parts)}


def changed_files(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return the paths of new and changed files; none may be missing."""
    assert before.keys() <= after.keys()
    return sorted(path for path, content in after.items() if before.get(path) != content)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ChangedCopy:
    """A copy of the repository with all additions, made one after the other."""
    root = tmp_path_factory.mktemp("changed") / "copy"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("rsft", "recipes", "tools", "docs", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    changed, before = {}, contents(root)
    for name, add in ADDITIONS.items():
        add(root)
        after = contents(root)
        changed[name], before = changed_files(before, after), after
    return ChangedCopy(root, changed)


@pytest.fixture(scope="module")
def toy_run(copy: ChangedCopy, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with the new PEFT method and the new loss."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    keys = ["peft.method=toy", "peft.bound=0.5", "loss.name=toy", "loss.smoothing=0.2", "train.epochs=1", "meta=null"]
    copy.rsft(folder, "finetune", "bars.yaml", *keys)
    (run,) = (folder / "runs/bars").iterdir()
    return run


@pytest.mark.parametrize("name", ADDITIONS)
def test_number_of_files(copy: ChangedCopy, name: str) -> None:
    assert len(copy.changed[name]) == COSTS[name], copy.changed[name]


def test_documented_folders_are_those_that_change(copy: ChangedCopy) -> None:
    described = {name: text for name, _, text in ROWS}
    for name, changed in copy.changed.items():
        documented = [path.rstrip("/") for path in re.findall(r"`([\w./]+)`", described[name])]
        assert all(any(path in file for file in changed) for path in documented), (documented, changed)


@pytest.mark.slow
def test_method_and_loss_in_a_recipe(toy_run: Path) -> None:
    recipe = (toy_run / "recipe.yaml").read_text()
    assert "method: toy" in recipe and "bound: 0.5" in recipe and "smoothing: 0.2" in recipe
    report = next(toy_run.glob("**/*.html")).read_text()
    assert "Toy tuning" in report and "Smoothed cross entropy (smoothing 0.2)" in report


@pytest.mark.slow
def test_engine_in_prediction(copy: ChangedCopy, toy_run: Path, root: Path, tmp_path: Path) -> None:
    help_text = " ".join(copy.rsft(tmp_path, "predict", "--help").split())
    assert "onnx, openvino, torch, toy, or an export" in help_text
    printed = copy.rsft(tmp_path, "predict", toy_run, root / "chips/val", "-o", "toy.csv", "--engine", "toy")
    assert "engine: toy fp32" in printed and len(pd.read_csv(tmp_path / "toy.csv")) == 18
    extras = tomllib.loads((copy.root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert "toy" in extras


@pytest.mark.slow
def test_data_set_becomes_a_chip_store(copy: ChangedCopy, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    rng = np.random.default_rng(0)
    for name in ("train_tug_1", "train_ferry_1", "val_tug_2"):
        cv2.imwrite(str(tmp_path / f"source/{name}.png"), rng.integers(0, 256, (16, 16), np.uint8))
    assert "3 chips in out" in copy.rsft(tmp_path, "prepare", "toy", "source", "--root", "out")
    shown = copy.rsft(tmp_path, "data", "show", "out")
    assert "tug" in shown and "ferry" in shown


@pytest.mark.slow
def test_rows_rules_and_generated_files(copy: ChangedCopy) -> None:
    """The new rows pass, the rules of the repository still hold, and all that changes besides is generated."""
    before = contents(copy.root)
    copy.run(copy.root, "tools/maintenance/recipe_reference.py")
    page = (copy.root / "docs/recipes.md").read_text("utf-8")
    assert "| `peft.bound` | a number > 0 | `1.0` | largest shift of a feature | `toy` |" in page
    row = "| `loss.smoothing` | a number >= 0 and < 1 | `0.1` | share of smoothing | `toy` |"
    assert row in page and "| `toy` | Toy tuning |" in page and "| `toy` | smoothed cross entropy |" in page

    rows = ("peft/test_matrix", "training/optim/test_losses", "inference/engines/test_graph_engines")
    rules = ("test_architecture", "test_docs", "inference/export/test_export", "inference/selection/test_selection")
    files = [f"tests/{name}.py" for name in (*rows, "data/prepare/test_toy", *rules)]
    selection = "toy or tested or losses or architecture or (docs and prepare) or schema or documentation or fastest"
    selection += " or (help and (predict or export or prepare))"
    options = ("-vv", "-p", "no:cacheprovider", "-k", selection, *files, "tests/test_snapshots.py")
    printed = copy.run(copy.root, "-m", "pytest", *options, RSFT_UPDATE_SNAPSHOTS="1")
    passed = [line for line in printed.splitlines() if "toy" in line and "PASSED" in line]
    for file in files[:4]:
        assert any(line.startswith(file) for line in passed), file
    changed = changed_files(before, contents(copy.root))
    assert "tests/snapshots/help/rsft-prepare-toy.txt" in changed
    assert all(path.startswith(GENERATED) for path in changed), changed
