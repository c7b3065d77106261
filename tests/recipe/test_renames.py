"""Old names of keys and values are read for one more version."""

import json
import logging

import pytest

from rsft.errors import RecipeError
from rsft.recipe import renames
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.renames import RENAMED_KEYS, content_in_first_format, current_key, rename_keys
from rsft.sweep.results import OUTCOME, read_outcome
from rsft.sweep.schema import read_sweep

OLD = """\
data: {root: x, size: 32}
meta: {init: 0.5, every: 2, round: 3}
head: {scale: 10}
loss: {name: ldam, defer: 0.5}
train:
  epochs: 1
  accumulate: 2
  clip_norm: 1
  precision: 32
  runs: 3
"""


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    return path


@pytest.fixture
def warned(caplog):
    """Return a function that lists the logged messages."""
    renames._warn.cache_clear()
    caplog.set_level(logging.WARNING, "rsft")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_file_with_old_names(old, warned):
    recipe = load_recipe(old)
    meta, train = recipe.meta, recipe.train
    assert (meta.init_scale, meta.outer_every, meta.resplit_every) == (0.5, 2, 3)
    assert (recipe.head.logit_scale, recipe.loss.settings["drw_start"]) == (10, 0.5)
    assert (train.accumulate_grad_batches, train.max_grad_norm, train.ensemble_size) == (2, 1, 3)
    assert train.precision == "fp32"
    assert len(warned()) == len(RENAMED_KEYS) + 1
    lines = "\n".join(warned())
    assert all(f"{old}: {key} is now {new};" in lines for key, new in RENAMED_KEYS.items())
    assert "train.precision: 32 is now fp32" in lines


def test_a_stored_file_warns_of_its_overrides_only(old, warned):
    recipe = load_recipe(old, ["train.runs=2", "loss={name: ldam, defer: 0.25}"], stored=True)
    assert (recipe.train.ensemble_size, recipe.loss.settings["drw_start"]) == (2, 0.25)
    assert [line.partition(" is now")[0] for line in warned()] == [
        "command line: train.runs",
        "command line: loss.defer",
    ]


def test_new_names_do_not_warn(old, warned, tmp_path):
    new = tmp_path / "new.yaml"
    new.write_text(dump_recipe(load_recipe(old, stored=True)))
    assert load_recipe(new, ["train.precision=fp32"]).train == load_recipe(old, stored=True).train
    assert not warned()


def test_both_names_are_a_fault(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text("data: {root: x, size: 32}\ntrain:\n  epochs: 1\n  ensemble_size: 1\n  runs: 3\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    (fault,) = caught.value.faults
    assert (fault.line, fault.key, fault.value) == (5, "train.runs", "3")
    assert fault.allowed == "nothing: train.ensemble_size is its new name and is given too"


def test_fault_in_an_old_key_has_its_line(tmp_path):
    path = tmp_path / "fault.yaml"
    path.write_text("data: {root: x, size: 32}\ntrain:\n  epochs: 1\n  runs: 0\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["loss.name=ldam", "loss.defer=2"])
    faults = [(fault.line, fault.key, fault.value) for fault in caught.value.faults]
    assert faults == [(0, "loss.drw_start", "2 (command line)"), (4, "train.ensemble_size", "0")]


def test_sweeps_with_old_names(old, tmp_path, warned):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"recipe: {old}\noverrides: {{train.runs: 1}}\ngrid:\n  meta.every: [1, 2]\n  train.precision: [32, bf16]\n"
        "cases: [{head.scale: 5}, {head.scale: 6}]\nx: meta.every\n"
    )
    read, document = read_sweep(sweep, ["train.clip_norm=2"])
    assert read.overrides == {"train.ensemble_size": 1, "train.max_grad_norm": 2}
    assert read.grid == {"meta.outer_every": [1, 2], "train.precision": ["fp32", "bf16"]}
    assert read.cases == [{"head.logit_scale": 5}, {"head.logit_scale": 6}] and read.x == "meta.outer_every"
    assert document.lines["grid.meta.outer_every"] == 4
    assert len(warned()) == 5


def test_outcomes_with_old_names(tmp_path):
    (tmp_path / OUTCOME).write_text(json.dumps({"keys": {"train.runs": 1, "peft.rank": 4}, "status": "done"}))
    assert read_outcome(tmp_path).keys == {"train.ensemble_size": 1, "peft.rank": 4}


def test_content_in_first_format_has_every_old_key(old):
    content = content_in_first_format(load_recipe(old, stored=True))
    assert content["train"]["runs"] == 3 and content["train"]["precision"] == "32"
    assert content["loss"] == {
        "name": "ldam", "tau": 1.0, "gamma": 2.0, "margin": 0.5, "margin_scale": 25.0, "defer": 0.5, "beta": 0.9999,
        "weight": 0.1, "penalty": 0.1,
    }  # fmt: skip
    assert content["peft"]["prompts"] == 10 and "blocks" not in content["backbone"]


def test_keys_keep_their_order():
    assert list(rename_keys({"a": 1, "runs": 2, "b": 3}, "train.")) == ["a", "ensemble_size", "b"]
    assert current_key("train.lr") == "train.lr"
