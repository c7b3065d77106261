"""Each plug-in can be deleted with its tests and the recipes of its data sets."""

import ast
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

import rsft as package
from rsft.utils.registry import PLUGINS
from tests.helpers.style import ROOT, files_of, nodes_of

COPIED = ("rsft", "tests", "recipes", "tools", "docs", "examples", "qgis", "packaging")
FILES = (
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "Makefile",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "NOTICE",
)
NAMES = sorted(path.parent.name for path in PLUGINS.glob("*/plugin.toml"))
SUITE = (
    "-m",
    "not exhaustive",
    "tests/test_plugins.py",
    "tests/test_architecture.py",
    "tests/test_extension.py",
    "tests/test_one_file_plugins.py",
    "tests/recipe",
    "tests/cli/test_plugin_commands.py",
    "tests/utils/test_registry.py",
    "tests/test_recipes.py::test_shipped_recipe_runs[mstar_lt_small]",
)
"""Imports, structure, registries, the shipped recipes, and one fine-tuning."""
FAST_TESTS = (
    "--first-cases",
    "-m",
    "not slow and not exhaustive",
    # files that the copy does not have
    "--ignore=tests/test_dockerfile.py",
    "--ignore=tests/test_package.py",
    "--ignore=tests/test_publishing.py",
    # pages and examples of all commands
    "--ignore=tests/test_docs.py",
    "--ignore=tests/test_snapshots.py",
    "--deselect=tests/test_examples.py::test_examples[rsft]",
    "tests",
)


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


def test_no_plug_in_needs_another():
    """Nor do its tests, which may skip without another one."""
    for name in NAMES:
        for folder in ("rsft/plugins", "tests/plugins"):
            for file in files_of(ROOT / folder / name):
                imported = set()
                for node in nodes_of(file):
                    if isinstance(node, ast.ImportFrom):
                        imported.add(str(node.module))
                    elif isinstance(node, ast.Import):
                        imported.update(alias.name for alias in node.names)
                for module in imported:
                    package, _, other = module.partition(".plugins.")
                    if package in ("rsft", "tests"):
                        assert other.split(".")[0] in (name, ""), f"{file}: {module}"


def test_every_module_can_be_imported(rsft):
    for module in pkgutil.walk_packages(package.__path__, "rsft."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    code, printed = rsft("--help")
    assert code == 0 and "finetune" in printed


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "names",
    [*([name] for name in NAMES), NAMES],
    ids=lambda names: names[0] if len(names) == 1 else "all",
)
def test_a_plug_in_can_be_deleted(names, project):
    """The last case deletes all plug-ins together, and then runs the tests of
    `make test-fast` as well."""
    for name in names:
        delete_plugin(project, name)
    suites = [SUITE]
    if len(names) > 1:
        suites.append(FAST_TESTS)
    words = ["-q", "-x", "-p", "no:cacheprovider"]
    # shares of all code, which rise or fall with the code that is deleted
    for test in ("test_the_budget_is_kept", "test_docstrings_have_their_sections"):
        words += ["--deselect", f"tests/test_architecture.py::{test}"]
    for suite in suites:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, *suite],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
