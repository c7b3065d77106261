"""A column of a table from archives of the published layouts to paper, authors' code
and rsft."""

import hashlib
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from rsft.data.datasets.fusrs import read_fusrs_list
from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import Interrupted, RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.plugins.sweeps.paper import job, runs
from rsft.plugins.sweeps.paper.authors import runs as authors_runs
from rsft.plugins.sweeps.paper.authors.process import Trace
from rsft.plugins.sweeps.paper.authors.runs import authors_folder, run_authors
from rsft.plugins.sweeps.paper.cells import TableSettings, read_tables
from rsft.plugins.sweeps.paper.job import (
    ReproductionRequest,
    find_table,
    reproduce_table,
)
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.study.runs import run_trial
from rsft.study.trials import Trial
from rsft.training.finetune import finetune
from rsft.training.listeners import RunListener
from tests.helpers.executors import ExecutorHere
from tests.helpers.fusrs_data import write_for_lists
from tests.helpers.plugins import needs_plugin

ROWS = ("BitFit", "LoRA", "LoRA, six positions", "MetaLoRA, query and value")
CLASSES = ("C07", "C04", "C12", "C03")
"""Category of FUSAR-Ship of each label: other, fishing, tanker, dredger."""


@pytest.mark.parametrize(
    ("text", "number"),
    [("table4", "4"), ("S3", "S3"), ("Figure-1c", "Figure-1c"), ("6", "6")],
)
def test_a_table_is_found_by_its_name(text, number):
    assert find_table(text) == find_table(text.upper()) == number


def test_an_unknown_table_or_column_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no table table99") as error:
        find_table("table99")
    assert "Figure-1a" in error.value.hint
    request = ReproductionRequest("4", TableSettings(column="radar"), tmp_path)
    with pytest.raises(RequestError, match="no column radar") as error:
        reproduce_table(request, print)
    assert "SAR" in error.value.hint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Both archives, the lists and a network of twelve small blocks; the table has a
    few rows, and runs stay here."""
    for split, first in (("train", 0), ("test", 50)):
        names = [
            f"Ship_{CLASSES[label]}S01N{first + k:04d}.png {label}"
            for label in range(4)
            for k in range(6 - label)
        ]
        names += [
            f"L{1 + (split == 'test')}_{ship}.png {label}"
            for ship, label in ((1, 0), (2, 1))
        ]
        (tmp_path / f"v25_{split}.txt").write_text("\n".join(names) + "\n")
    rows = [
        row
        for split in ("train", "test")
        for row in read_fusrs_list(tmp_path / f"v25_{split}.txt", split, 4)[0]
    ]
    write_for_lists(tmp_path, rows, 4)
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    tables = read_tables()
    small = tables["4"].model_copy(
        update={"rows": {name: tables["4"].rows[name] for name in ROWS}}
    )
    monkeypatch.setattr(job, "read_tables", lambda: tables | {"4": small})

    use_executor(monkeypatch, run_here)
    return tmp_path


def use_executor(monkeypatch, work):
    monkeypatch.setattr(runs, "open_executor", lambda **_: ExecutorHere(work))


def run_here(folder, keys, settings):
    return run_trial(folder, keys, settings.metric, RunListener())


def make_request(folder, **changes):
    overrides = (
        "backbone.name=timm:vit_tiny_patch16_224",
        f"backbone.weights={folder}/vit.safetensors",
        "data.size=32",
        "data.workers=0",
        "train.epochs=1",
        "train.ensemble_size=1",
        "train.batch_size=16",
        "train.precision=fp32",
    )
    settings = TableSettings("", overrides, (), "SAR", folder)
    return ReproductionRequest("4", settings, folder / "results", folder, **changes)


def test_all_that_is_missing_is_named_at_once(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    request = ReproductionRequest(
        "4", TableSettings(column="SAR", root=empty), folder / "results", folder
    )
    with pytest.raises(RequestError, match="2 inputs") as error:
        reproduce_table(request, print)
    assert (
        "FUSAR-Ship" in error.value.hint
        and "rsft weights get satmae_vit_large_patch16_224" in error.value.hint
    )


TRAINED = []


def train_nothing(checkout, device, task):
    """Return the start of rsft, with B and the biases off zero."""
    TRAINED.append(task)
    assert device == "cpu" and task.takes_rates
    assert task.config["loss_type"] == "LA" and task.config["num_epochs"] == 1
    _, learner = task.prepare()
    state = learner.classifier.learned_state()
    assert {task.authors_name(name) for name in state} >= {"head.weight"}
    return Trace(
        state, [], [], [{name: tensor + 0.01 for name, tensor in state.items()}]
    )


@pytest.mark.slow
def test_archives_become_a_column_with_paper_authors_and_rsft(folder, monkeypatch):
    monkeypatch.setattr(authors_runs, "train_by_authors", train_nothing)
    TRAINED.clear()
    monkeypatch.setattr(job, "require_checkout", lambda name, checkout: None)
    lines = []
    request = make_request(folder, metalora=folder)
    text = reproduce_table(request, lines.append)
    chips = pd.read_csv(folder / "results/chips_fusrs.csv")
    assert chips["split"].value_counts().to_dict() == {
        "train": 16,
        "test": 20,
        "val": 4,
    }
    assert (
        chips["sha256"].str.fullmatch("[0-9a-f]{64}").all()
        and chips["sha256"].nunique() == 40
    )
    sha256 = hashlib.sha256(
        (folder / "results/chips_fusrs.csv").read_bytes()
    ).hexdigest()
    assert (
        f"40 chips of FUSRS v2, published, 4 classes: {folder}/results/chips_fusrs.csv,"
        f" SHA-256 {sha256[:16]}" in lines
    )
    cell = r"(-|[0-9.]+ \[[0-9.]+, [0-9.]+\])"
    rows = re.findall(
        rf"^\| (.+) \| (head|tail) \| (.+) \| {cell} \| {cell} \|$", text, re.MULTILINE
    )
    assert [row[:3] for row in rows[:4]] == [
        ("BitFit", "head", "32.1"),
        ("BitFit", "tail", "74.7"),
        ("LoRA", "head", "40.0"),
        ("LoRA", "tail", "72.1"),
    ]
    assert [row[0] for row in rows] == [name for name in ROWS for _ in range(2)]
    assert all(row[4] != "-" for row in rows)
    # its code has another outer loop
    assert {row[0] for row in rows if row[3] == "-"} == {"MetaLoRA, query and value"}
    assert len(TRAINED) == 3

    def stop(*_, **__):
        raise AssertionError("a finished run is done again")

    use_executor(monkeypatch, stop)
    assert reproduce_table(request, lines.append) == text and len(TRAINED) == 3
    printed = make_request(folder, only_print=True)
    assert reproduce_table(printed, lines.append) == text


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_stopped_command_goes_on(folder, monkeypatch):
    calls = []

    def stop_at_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_here(*arguments)

    use_executor(monkeypatch, stop_at_third)
    with pytest.raises(Interrupted):
        reproduce_table(make_request(folder), print)
    text = reproduce_table(make_request(folder), print)
    assert (
        len(calls) == len(ROWS) + 1
        and "| LoRA, six positions | tail | ? | - | " in text
    )


@pytest.mark.authors
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("satmae_sar_lora", []),
        pytest.param(
            "satmae_sar_metaadapter",
            ["peft.modulator=feature", "meta.schedule=metalora", "train.epochs=3"],
            marks=needs_plugin("authors_schedule"),
        ),
    ],
)
def test_the_authors_learn_what_rsft_learns_at_a_constant_rate(folder, name, keys):
    """In float32; with a cosine they differ, because the code changes the rate once per
    epoch."""
    checkout = os.environ.get("RSFT_METALORA")
    if not checkout:
        pytest.skip(
            "no checkout of the authors' code: set RSFT_METALORA (see"
            " docs/reproduction.md)"
        )
    store = prepare_fusrs(folder / "fusrs", protocol="published", lists=folder, val=0.1)
    overrides = [
        *make_request(folder).settings.overrides,
        "train.schedule=constant",
        f"data.root={store.root}",
        *keys,
    ]
    recipe = load_recipe(find_recipe(name), overrides)
    trial = Trial({}, recipe)
    assert run_authors(Path(checkout), "cpu", trial, authors_folder(folder, trial))
    theirs = Bundle.load(authors_folder(folder, trial) / "bundle").tensors
    ours = Bundle.load(finetune(recipe, folder / "runs").folder).tensors
    assert theirs.keys() == ours.keys() and "head.weight" in ours
    for key, tensor in ours.items():
        assert (theirs[key] - tensor).norm() <= 5e-5 * tensor.norm(), key
