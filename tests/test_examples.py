"""The examples in docstrings run, in a folder with a chip store, a run and new
chips."""

import doctest
import importlib
import inspect
import shutil

import pandas as pd
import pytest

import rsft
import rsft.metrics
import rsft.peft
from rsft.backbones import registered
from tests.helpers.scenes import write_sea
from tests.helpers.style import ROOT, files_of

ARTIFACTS = ROOT / "tests/compat/0.2"
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in files_of(ROOT / "rsft")
    if ">>>" in file.read_text("utf-8")
]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Make the folders that the examples name the contents of the working directory."""
    shutil.copytree(ARTIFACTS / "store", tmp_path / "data/ships")
    shutil.copytree(ARTIFACTS / "store/chips/val", tmp_path / "new_chips")
    shutil.copytree(ARTIFACTS / "run", tmp_path / "runs/ships/001")
    shutil.copyfile(ARTIFACTS / "run_predictions.csv", tmp_path / "predictions.csv")
    table = pd.read_parquet(tmp_path / "data/ships/manifest.parquet")[
        ["path", "class"]
    ].head(2)
    table.assign(path="data/ships/" + table["path"]).to_csv(
        tmp_path / "corrected.csv", index=False
    )
    write_sea(tmp_path / "scene.tif")
    # the baseline of a few chips takes many epochs
    monkeypatch.setattr("rsft.training.small_network.STEPS", 1)
    # an example registers an encoder
    cards = dict(registered.CARDS)
    monkeypatch.setattr(registered, "CARDS", cards)
    monkeypatch.setattr("rsft.backbones.frozen_network.CARDS", cards)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, workspace):
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS
    )
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize(
    "module", [rsft, rsft.metrics, rsft.peft], ids=lambda module: module.__name__
)
def test_public_names_are_explained(module):
    # functions of plug-ins are no constants of the module
    for name in dir(rsft) if module is rsft else module.__all__:
        public = getattr(module, name)
        text = inspect.getdoc(public) or ""
        if not inspect.isclass(public) and not inspect.isfunction(public):
            continue  # constants and registries, which their modules explain
        if public is rsft.Recipe:
            # its docstring is part of the published schema; docs/recipes.md explains
            # its keys
            continue
        assert "Example:" in text, name
        has_parameters = (
            inspect.isfunction(public) and inspect.signature(public).parameters
        )
        assert not has_parameters or "Args:" in text, name
        returns = inspect.isfunction(public) and inspect.signature(
            public
        ).return_annotation not in (None, "None")
        assert not returns or "Returns:" in text or "Yields:" in text, name


def test_no_example_is_skipped():
    assert not [
        file
        for file in files_of(ROOT / "rsft")
        if "doctest: +SKIP" in file.read_text("utf-8")
    ]
