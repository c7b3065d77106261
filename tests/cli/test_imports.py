"""Commands import only the heavy packages that they use. The commands of a test run in a new process."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE

pytestmark = pytest.mark.slow

PROGRAM = """
import io, json, sys

from rsft.cli import main

def write_packages(name):
    packages = {name.partition(".")[0] for name in sys.modules}
    json.dump(sorted(packages), open(name, "w"))

class Output(io.StringIO):
    def write(self, text):
        if text.startswith('{"event": "step", ') and '"done": 1,' in text:  # the first step of a training
            write_packages("step.json")
        return sys.__stdout__.write(text)

sys.stdout = Output()
for words in json.loads(sys.argv[1]):
    sys.argv = ["rsft", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
write_packages("packages.json")
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


def imported_packages(folder, *commands, setup=""):
    """Run commands in a new process; return what they imported."""
    words = [[str(word) for word in command] for command in commands]
    command = [sys.executable, "-c", setup + PROGRAM, json.dumps(words)]
    environment = os.environ | {"RSFT_WEIGHTS": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads((folder / "packages.json").read_text()))


def test_help_imports_nothing_heavy(tmp_path):
    commands = ["", "prepare", "prepare folder", "finetune", "predict", "backbones ls"]
    packages = imported_packages(tmp_path, *([*command.split(), "--help"] for command in commands))
    assert "typer" in packages and not packages & {*HEAVY, "numpy"}


def test_lists_import_nothing_heavy(tmp_path):
    commands = ["backbones ls", "weights ls", "weights verify", "recipes ls", "runs ls", "recipes validate quickstart"]
    assert not imported_packages(tmp_path, *(command.split() for command in commands)) & HEAVY


def test_the_packages_of_rsft_import_nothing_heavy():
    names = ("data", "data.datasets", "data.prepare", "data.loading", "models", "training", "inference", "evaluation")
    code = f"import sys, {', '.join(f'rsft.{name}' for name in names)}\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_prepare_folder_imports_no_networks(class_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # of a notebook
    packages = imported_packages(tmp_path, ["prepare", "folder", class_folders, "--root", "store"])
    assert "pandas" in packages and (tmp_path / "store/manifest.parquet").is_file()
    assert packages & HEAVY == {"cv2", "matplotlib", "pandas", "pyarrow", "rasterio"}  # matplotlib draws a figure


def test_prepare_demo_imports_no_networks(tmp_path):
    packages = imported_packages(tmp_path, ["prepare", "demo", "--root", "store", "--jobs", "1"], setup=FEW_CHIPS)
    assert not packages & {*TORCHGEO, *NETWORKS, "sklearn", "geopandas"}


def test_a_training_imports_statistics_after_its_first_step_and_never_torchgeo_and_lightning(root, tmp_path):
    (tmp_path / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    words = ["finetune", "bars.yaml", "--json", "--log-every", "1", "train.epochs=1"]
    packages = imported_packages(tmp_path, words)
    assert "torch" in packages and not packages & {*TORCHGEO, "lightning", "torchmetrics"}
    packages = set(json.loads((tmp_path / "step.json").read_text()))
    assert "torch" in packages
    assert not packages & {*TORCHGEO, "lightning", "matplotlib", "sklearn", "torchmetrics", "geopandas"}


def test_the_description_of_a_bundle_builds_no_network(run, tmp_path):
    assert imported_packages(tmp_path, ["bundle", "show", run]) & HEAVY <= {"cv2", "torch"}


def test_prediction_with_pytorch_imports_no_statistics(run, root, tmp_path):
    words = ["predict", run, root / "chips/val", "-o", "chips.csv", "--engine", "torch"]
    packages = imported_packages(tmp_path, words)
    assert "torch" in packages and not packages & {*TORCHGEO, *STATISTICS, "lightning"}
