"""The SAR data sets need TorchGeo and nothing of rsft, so that they can be offered to TorchGeo as they are."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parents[2] / "rsft/data/datasets"
DATASETS = ("fusar_ship", "srsdd", "fusrs", "opensarship")
MODULES = (*DATASETS, "_fusar_metadata", "_sar_common")

CONFTEST = """\
import sys

sys.modules["rsft"] = None  # every import of it fails
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_of_rsft_but_its_neighbors(module: str) -> None:
    nodes = list(ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))))
    absolute = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    absolute += [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    assert not [name for name in absolute if name and name.split(".")[0] == "rsft"]
    relative = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1}
    assert relative <= set(MODULES)


@pytest.mark.slow
def test_the_tests_pass_in_the_layout_of_torchgeo(tmp_path: Path) -> None:
    """Copy the data sets to torchgeo/datasets/, their tests to tests/datasets/ and their generators to tests/data/."""
    package, tests, data = (tmp_path / name for name in ("upstream/datasets", "tests/datasets", "tests/data"))
    for folder in (package, tests, data):
        folder.mkdir(parents=True)
    for module in MODULES:
        shutil.copy(PACKAGE / f"{module}.py", package)
    for name in DATASETS:
        shutil.copytree(TESTS / name, data / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TESTS / f"test_{name}.py", tests)
    for file in tmp_path.rglob("*.py"):
        text = file.read_text("utf-8").replace("rsft.data.datasets", "upstream.datasets")
        file.write_text(text.replace("tests.data.datasets", "tests.data"), "utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = realdata\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"}
    result = subprocess.run(
        [*command, "-m", "not realdata", "tests"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout + result.stderr
