"""Commands import only the heavy packages that they use.

Commands run in new processes, first those that may import the least: what a command
finds imported was allowed before.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.plugins import needs_plugin

# without some encoders, a list makes the cards of all encoders again
pytestmark = [pytest.mark.slow, needs_plugin("encoders")]

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
for name, commands in json.loads(sys.argv[1]).items():
    for words in commands:
        sys.argv = ["rsft", *words]
        try:
            main()
        except SystemExit as stop:
            assert (stop.code or 0) == 2 * (name == "refused"), (words, stop.code)
    write_packages(f"{name}.json")
"""

NETWORKS = {"torch", "torchvision", "timm", "lightning"}
TORCHGEO = {"torchgeo", "kornia", "segmentation_models_pytorch"}
STATISTICS = {"matplotlib", "scipy", "sklearn", "torchmetrics"}
FILES = {"cv2", "geopandas", "pandas", "pyarrow", "rasterio"}
DOWNLOADS = {"requests", "urllib3"}
HEAVY = {*NETWORKS, *TORCHGEO, *STATISTICS, *FILES}


def run_commands(folder, commands, setup=""):
    """Run commands in a new process; return the packages that are imported after those
    of each name."""
    words = {
        name: [[str(word) for word in command] for command in some]
        for name, some in commands.items()
    }
    command = [sys.executable, "-c", setup + PROGRAM, json.dumps(words)]
    environment = os.environ | {"RSFT_WEIGHTS": str(folder)}
    environment["MPLBACKEND"] = (
        "module://matplotlib_inline.backend_inline"  # of a notebook
    )
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.stem: set(json.loads(path.read_text())) for path in folder.glob("*.json")
    }


GROUPS = ["", "prepare", "data"]
HELP = ["prepare folder", "finetune", "predict", "backbones ls"]
LISTS = [
    "backbones ls",
    "weights verify",
    "recipes ls",
    "runs ls",
    "recipes validate mstar_lt_small",
]
REFUSED = [
    "finetune mstar_lt_small data.root=none",
    "finetune auto data.root=none",
    "finetune --from none",
    "finetune mstar_lt_small --from none",
    "evaluate none none",
    "predict none none -o a.csv",
    "sweep none",
    "bundle show none",
    "data add none none",
    "bundle verify none",
    "export none --format onnx",
    "runs show none",
]
"""Commands with a chip store, bundle, sweep or run that does not exist."""


@pytest.fixture(scope="module")
def without_networks(class_folders, run, tmp_path_factory):
    """Packages that are imported after commands without a network."""
    commands = {
        "groups": [[*command.split(), "--help"] for command in GROUPS],
        "help": [[*command.split(), "--help"] for command in HELP],
        "lists": [*(command.split() for command in LISTS), ["runs", "ls", run.parent]],
        "folder": [["prepare", "folder", class_folders, "--root", "store"]],
        "refused": [command.split() for command in REFUSED],
        "data": [["data", "show", "store"]],
        "bundle": [["bundle", "show", run], ["runs", "show", run], ["reproduce"]],
        "doctor": [["doctor"]],
    }
    return run_commands(tmp_path_factory.mktemp("without"), commands)


@pytest.fixture(scope="module")
def with_networks(run, root, tmp_path_factory):
    """Packages that are imported after commands with a bundle, and at the first step of
    a training."""
    folder = tmp_path_factory.mktemp("with")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    commands = {
        "predict": [
            ["predict", run, root / "chips/val", "-o", "chips.csv", "--engine", "torch"]
        ],
        "finetune": [["finetune", "bars.yaml", "--json", "train.epochs=1"]],
    }
    return run_commands(folder, commands)


FORBIDDEN = {
    "groups": {*HEAVY, "numpy", "markdown_it", "pygments"},
    "help": {*HEAVY, "numpy"},
    "lists": {*HEAVY, *DOWNLOADS},
    "folder": {*NETWORKS, *TORCHGEO, *STATISTICS, *DOWNLOADS},
    "refused": {*NETWORKS, *TORCHGEO},
    "data": {*NETWORKS, *TORCHGEO, *STATISTICS},
    "bundle": {*NETWORKS, *TORCHGEO, *STATISTICS},
    "doctor": {*NETWORKS, *TORCHGEO, *STATISTICS} - {"torch"},
}
"""Packages that commands without a network must not import, by their name."""


@pytest.mark.parametrize("name", FORBIDDEN)
def test_commands_without_a_network_import_little(without_networks, name):
    packages = without_networks[name]
    assert "typer" in packages and not packages & FORBIDDEN[name]


def test_the_packages_of_rsft_import_nothing_heavy():
    names = (
        "data",
        "data.datasets",
        "data.prepare",
        "data.loading",
        "models",
        "training",
        "inference",
        "evaluation",
    )
    code = (
        f"import sys, {', '.join(f'rsft.{name}' for name in names)}\nprint('numpy' in"
        " sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_prediction_with_pytorch_imports_no_statistics(with_networks):
    # timm imports torchvision; with an exported graph, neither is imported:
    # tests/inference/predict/test_without_torch.py
    packages = with_networks["predict"]
    assert "torch" in packages
    assert not packages & {*TORCHGEO, *STATISTICS, *DOWNLOADS, "lightning"}


def test_a_training_imports_statistics_after_its_first_step_and_never_torchgeo_and_lightning(
    with_networks,
):
    assert not with_networks["finetune"] & {*TORCHGEO, "lightning", "torchmetrics"}
    packages = with_networks["step"]
    assert "torch" in packages
    assert not packages & {
        *TORCHGEO,
        "lightning",
        "matplotlib",
        "sklearn",
        "torchmetrics",
        "geopandas",
    }


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("rsft.cli.reading", {"numpy", "xml"}),  # in every command
        ("rsft.utils.parquet_files", {"pandas"}),  # in the reader cell
    ],
)
def test_what_starts_the_reader_cell_imports_little(module, others):
    check = f"import sys, {module}; assert not {others} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check], check=True)
