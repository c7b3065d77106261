"""The data sets that TorchGeo lacks work in a checkout of TorchGeo, where rsft cannot
be imported."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torchgeo

from rsft.errors import RequestError
from rsft.utils.registry import entry_points_of
from tools.maintenance.torchgeo_checkout import CLASSES, MODULES, copy_datasets

CONFTEST = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rsft", "tools"):
            raise ModuleNotFoundError(f"{name} is not part of TorchGeo")


sys.meta_path.insert(0, Blocker())
"""

CHECK = """
import importlib
import pathlib

import pytest
import torchgeo.datasets


def test_the_classes_are_exported_by_the_checkout():
    assert pathlib.Path(torchgeo.datasets.__file__).parents[2] == pathlib.Path.cwd()
    for name in ("FUSARShip", "FUSRS", "SRSDD"):
        assert name in torchgeo.datasets.__all__ and hasattr(torchgeo.datasets, name)
    with pytest.raises(ModuleNotFoundError, match="not part of TorchGeo"):
        importlib.import_module("rsft")
"""


@pytest.mark.exhaustive
@pytest.mark.slow
def test_tests_pass_in_a_checkout_without_rsft(tmp_path):
    # the layout of TorchGeo's repository: the installed package, and tests
    checkout = tmp_path
    package = Path(torchgeo.__file__).parent
    shutil.copytree(
        package, checkout / "torchgeo", ignore=shutil.ignore_patterns("*.pyc")
    )
    (checkout / "tests/datasets").mkdir(parents=True)
    written = copy_datasets(checkout)
    of_plugins = entry_points_of("rsft.torchgeo_datasets")
    # that of a plug-in may have a module of its readers
    per_plugin = 4 * len(of_plugins)
    assert len(written) == 2 * len(MODULES) + len(CLASSES) + per_plugin + 2
    (checkout / "conftest.py").write_text(CONFTEST)
    (checkout / "tests/datasets/test_exports.py").write_text(CHECK)
    options = (
        "--import-mode=importlib",
        "-m",
        "not realdata",
        "-o",
        "markers=realdata: real data",
        "-p",
        "no:xdist",
    )
    warnings = ("-W", "ignore::rasterio.errors.NotGeoreferencedWarning")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            os.devnull,
            f"--rootdir={checkout}",
            *options,
            *warnings,
            "tests",
        ],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed and int(passed[1]) > 80, result.stdout[-500:]
    assert all("TorchGeo Contributors" in path.read_text() for path in written[:-1])


def test_a_second_copy_exports_each_class_once_and_files_that_need_rsft_are_refused(
    tmp_path,
):
    with pytest.raises(RequestError, match="no checkout of TorchGeo"):
        copy_datasets(tmp_path)
    index = tmp_path / "torchgeo/datasets/__init__.py"
    index.parent.mkdir(parents=True)
    index.write_text("__all__ = ()\n")
    with pytest.raises(RequestError, match="the file needs rsft"):
        copy_datasets(tmp_path, ["dota"])
    assert [path.name for path in tmp_path.rglob("*.py")] == ["__init__.py"]
    copy_datasets(tmp_path)
    text = index.read_text()
    copy_datasets(tmp_path)
    assert index.read_text() == text and text.count("import SRSDD") == 1
