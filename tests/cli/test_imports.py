"""Commands import only the heavy packages that they use. Each command runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE

PROGRAM = """
import json, sys

from rsft.cli import main

try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
modules = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(modules)), file=open(sys.argv.pop(), "w"))
"""

NETWORKS = {"torch", "torchvision", "timm", "lightning"}
TORCHGEO = {"torchgeo", "kornia", "segmentation_models_pytorch"}


def imported_packages(tmp_path: Path, *arguments: object) -> set[str]:
    """Run a command in a new process and return the packages that it imported."""
    report = tmp_path / "modules.json"
    program = PROGRAM.replace("sys.argv.pop()", repr(str(report)))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(report.read_text()))


@pytest.mark.parametrize("command", ["", "prepare", "prepare folder", "finetune", "predict", "backbones ls"])
def test_help_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    packages = imported_packages(tmp_path, *command.split(), "--help")
    assert "typer" in packages
    assert not packages & {*TORCHGEO, *NETWORKS, "numpy", "pandas", "matplotlib", "sklearn", "geopandas", "rasterio"}


def test_the_packages_of_rsft_import_nothing_heavy() -> None:
    names = ("data", "data.datasets", "data.prepare", "data.loading", "models", "training", "inference", "evaluation")
    code = f"import sys, {', '.join(f'rsft.{name}' for name in names)}\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_prepare_folder_imports_no_networks(class_folders: Path, tmp_path: Path) -> None:
    packages = imported_packages(tmp_path, "prepare", "folder", class_folders, "--root", "store")
    assert "pandas" in packages and (tmp_path / "store/manifest.parquet").is_file()
    assert not packages & {*TORCHGEO, *NETWORKS, "sklearn", "geopandas"}


@pytest.mark.slow
def test_prepare_demo_imports_no_networks(tmp_path: Path) -> None:
    packages = imported_packages(tmp_path, "prepare", "demo", "--root", "store", "--jobs", "1")
    assert not packages & {*TORCHGEO, *NETWORKS, "sklearn", "geopandas"}


@pytest.mark.slow
def test_training_and_prediction_do_not_import_torchgeo(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    packages = imported_packages(tmp_path, "finetune", "bars.yaml", "train.epochs=1")
    assert "torch" in packages and not packages & TORCHGEO
    packages = imported_packages(tmp_path, "predict", "runs/bars", root / "chips/val", "-o", "chips.gpkg")
    assert "geopandas" in packages and not packages & {*TORCHGEO, "lightning"}
