"""Each plug-in can be deleted with its tests and the recipes of its data sets."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from rsft.utils.registry import PLUGINS
from tests.helpers.style import ROOT

COPIED = ("rsft", "tests", "recipes", "tools", "docs", "examples", "qgis")
FILES = ("pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "CITATION.cff")
NAMES = sorted(path.parent.name for path in PLUGINS.glob("*/plugin.toml"))
IMPORTS = """
import importlib, pkgutil, rsft
for module in pkgutil.walk_packages(rsft.__path__, "rsft."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
SUITE = (
    "tests/test_architecture.py",
    "tests/test_extension.py",
    "tests/recipe",
    "tests/cli/test_plugin_commands.py",
    "tests/utils/test_registry.py",
    "tests/test_recipes.py::test_shipped_recipe_runs[mstar_lt_small]",
)
"""Structure, registries, all shipped recipes, and one fine-tuning with its report."""


@pytest.fixture
def project(tmp_path):
    """Copy of the project."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def delete_plugin(project, name):
    """Delete a plug-in, its tests, and the recipes and sweeps of its data sets."""
    folder = project / "rsft/plugins" / name
    plugin = tomllib.loads((folder / "plugin.toml").read_text("utf-8"))
    shutil.rmtree(folder)
    shutil.rmtree(project / "tests/plugins" / name)
    recipes = {
        path: path.read_text("utf-8") for path in project.glob("recipes/**/*.yaml")
    }
    commands = [
        f"rsft prepare {data_set} "
        for data_set in plugin["entry-points"].get("rsft.datasets", ())
    ]
    deleted = [
        path for path, text in recipes.items() if any(word in text for word in commands)
    ]
    for path in project.glob("recipes/sweeps/*.yaml"):
        if any(recipe.stem in recipes[path] for recipe in deleted):
            deleted.append(path)
    for path in deleted:
        path.unlink()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
def test_a_plug_in_can_be_deleted(name, project):
    delete_plugin(project, name)
    pytest_words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SUITE]
    for words in (["-c", IMPORTS], ["-m", "rsft", "--help"], pytest_words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
