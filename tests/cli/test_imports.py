"""Commands import only the heavy packages that they use. Each command runs in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE

pytestmark = pytest.mark.slow

PROGRAM = """
import io, json, os, sys

from rsft.cli import main

def write_packages():
    packages = {name.partition(".")[0] for name in sys.modules}
    json.dump(sorted(packages), open("packages.json", "w"))

class Output(io.StringIO):
    def write(self, text):
        if text.startswith('{"event": "step"'):  # the first step of a training
            write_packages()
            os._exit(0)
        return sys.__stdout__.write(text)

sys.stdout = Output()
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
write_packages()
"""

NETWORKS = {"torch", "torchvision", "timm", "lightning"}
TORCHGEO = {"torchgeo", "kornia", "segmentation_models_pytorch"}
STATISTICS = {"matplotlib", "scipy", "sklearn", "torchmetrics"}
FILES = {"cv2", "geopandas", "pandas", "pyarrow", "rasterio"}
HEAVY = {*NETWORKS, *TORCHGEO, *STATISTICS, *FILES}


FEW_CHIPS = """
from rsft.data.prepare import demo
few = dict.fromkeys(demo.DEMO_CLASSES, 1)
train = dict(zip(demo.DEMO_CLASSES, (6, 4, 3, 2)))
demo.DEMO_COUNTS, demo.DEMO_SCENES = {"train": train, "val": few, "test": few}, 3
"""


def imported_packages(folder, *arguments, setup=""):
    """Run a command in a new process, to its end or to the first step of a training; return what it imported."""
    command = [sys.executable, "-c", setup + PROGRAM, *map(str, arguments)]
    environment = os.environ | {"RSFT_WEIGHTS": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads((folder / "packages.json").read_text()))


@pytest.mark.parametrize("command", ["", "prepare", "prepare folder", "finetune", "predict", "backbones ls"])
def test_help_imports_nothing_heavy(tmp_path, command):
    packages = imported_packages(tmp_path, *command.split(), "--help")
    assert "typer" in packages and not packages & {*HEAVY, "numpy"}


@pytest.mark.parametrize(
    "command", ["backbones ls", "weights ls", "weights verify", "recipes ls", "runs ls", "recipes validate quickstart"]
)
def test_lists_import_nothing_heavy(tmp_path, command):
    assert not imported_packages(tmp_path, *command.split()) & HEAVY


def test_the_packages_of_rsft_import_nothing_heavy():
    names = ("data", "data.datasets", "data.prepare", "data.loading", "models", "training", "inference", "evaluation")
    code = f"import sys, {', '.join(f'rsft.{name}' for name in names)}\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_prepare_folder_imports_no_networks(class_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # of a notebook
    packages = imported_packages(tmp_path, "prepare", "folder", class_folders, "--root", "store")
    assert "pandas" in packages and (tmp_path / "store/manifest.parquet").is_file()
    assert packages & HEAVY == {"cv2", "matplotlib", "pandas", "pyarrow", "rasterio"}  # matplotlib draws a figure


def test_prepare_demo_imports_no_networks(tmp_path):
    packages = imported_packages(tmp_path, "prepare", "demo", "--root", "store", "--jobs", "1", setup=FEW_CHIPS)
    assert not packages & {*TORCHGEO, *NETWORKS, "sklearn", "geopandas"}


def test_training_imports_no_statistics_before_its_first_step(root, tmp_path):
    (tmp_path / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    packages = imported_packages(tmp_path, "finetune", "bars.yaml", "--json", "--log-every", "1")
    assert "torch" in packages
    assert not packages & {*TORCHGEO, "lightning", "matplotlib", "sklearn", "torchmetrics", "geopandas"}


def test_a_whole_training_does_not_import_torchgeo_and_lightning(root, tmp_path):
    (tmp_path / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    packages = imported_packages(tmp_path, "finetune", "bars.yaml", "train.epochs=1")
    assert "torch" in packages and not packages & {*TORCHGEO, "lightning", "torchmetrics"}


def test_the_description_of_a_bundle_builds_no_network(run, tmp_path):
    assert imported_packages(tmp_path, "bundle", "show", run) & HEAVY <= {"cv2", "torch"}


def test_prediction_with_pytorch_imports_no_statistics(run, root, tmp_path):
    packages = imported_packages(tmp_path, "predict", run, root / "chips/val", "-o", "chips.csv", "--engine", "torch")
    assert "torch" in packages and not packages & {*TORCHGEO, *STATISTICS, "lightning"}
