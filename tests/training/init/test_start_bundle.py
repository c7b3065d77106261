"""A run that starts at a bundle: same outputs without training, classes by name,
checks, resumption."""

import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rsft.data.chips.store import ChipStore
from rsft.errors import RecipeError, RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.devices import copy_to_device
from rsft.models.loading import load_classifier, load_unmerged_classifier
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.replay import correction_recipe
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
STILL = ("train.lr=1.0e-12", "train.epochs=1", "train.weight_decay=0")


def logits(folder):
    with torch.no_grad():
        return load_unmerged_classifier(Bundle.load(folder), "cpu")(IMAGES)


def edit_store(root, folder, classes, edit):
    """Copy a chip store with other classes, and edit its manifest."""
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns(".cache"))
    description = json.loads((folder / "dataset.json").read_text())
    description |= {
        "classes": classes,
        "groups": {"head": classes[:1], "medium": [], "tail": classes[1:]},
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    table = edit(pd.read_parquet(folder / "manifest.parquet"))
    pq.write_table(
        pa.Table.from_pandas(table, preserve_index=False), folder / "manifest.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def corrected(run, tmp_path_factory):
    """A finished short run that starts at `run`."""
    return finetune(start=run, runs=tmp_path_factory.mktemp("corrected"))


def assert_equal_tensors(folder, other):
    tensors = Bundle.load(folder).tensors
    others = Bundle.load(other).tensors
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)


@pytest.mark.exhaustive
def test_a_run_that_learns_nothing_keeps_the_outputs(run, tmp_path):
    for overrides in (STILL, (*STILL, "train.last_blocks=null", "data.augment=sar")):
        again = finetune(correction_recipe(run, overrides), tmp_path)
        assert torch.allclose(logits(again.folder), logits(run), atol=1e-6)
        assert Bundle.load(again.folder).contract == Bundle.load(run).contract


def test_only_the_last_blocks_and_the_head_change(run, tmp_path):
    before = Bundle.load(run).tensors
    again = finetune(
        correction_recipe(run, ["train.lr=0.05", "train.epochs=3", "meta.lr=0.1"]),
        tmp_path,
    )
    after = Bundle.load(again.folder).tensors
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.split(".")[1] for key in changed if key.startswith("blocks")} == {
        "1",
        "2",
    }
    assert "head.weight" in changed and "gamma" in changed
    moved = (before["gamma"] != after["gamma"]).nonzero().flatten()
    assert moved.min() >= 6  # six positions in each block
    assert again.metadata["blocks_kept"] == again.metadata["start"]["kept_blocks"] == 1
    assert again.metadata["start"]["sha256"] == Bundle.load(run).sha256
    assert Bundle.load(run).tensors.keys() == before.keys()


@pytest.mark.exhaustive
def test_the_same_seed_gives_the_same_run_and_an_uncached_one_agrees(
    run, corrected, monkeypatch
):
    again = finetune(start=run, runs=corrected.folder.parents[1])
    assert corrected.folder.name == "001" and again.folder.name == "002"
    assert_equal_tensors(corrected.folder, again.folder)
    monkeypatch.setattr("rsft.training.assembly.can_cache_prefix", lambda *_: False)
    uncached = finetune(start=run, runs=corrected.folder.parents[1])
    assert (
        corrected.metadata["blocks_kept"] == 1 and uncached.metadata["blocks_kept"] == 0
    )
    assert torch.allclose(logits(corrected.folder), logits(uncached.folder), atol=1e-5)


@pytest.mark.exhaustive
def test_kept_blocks_have_no_dropout(run, tmp_path, monkeypatch):
    overrides = ["peft.dropout=0.5", "train.last_blocks=0", "train.epochs=2"]
    cached = finetune(correction_recipe(run, overrides), tmp_path)
    monkeypatch.setattr("rsft.training.assembly.can_cache_prefix", lambda *_: False)
    uncached = finetune(correction_recipe(run, overrides), tmp_path)
    assert torch.allclose(logits(cached.folder), logits(uncached.folder), atol=1e-5)
    assert cached.metadata["modulator_parameters"] == 0  # no scale is learned


def test_classes_are_matched_by_name(run, root, tmp_path, caplog):
    """New class, other order, and a class without chips: rows of the head follow the
    names."""

    def edit(table):
        table.loc[table["class"] == "flat", "class"] = "tug"
        return table

    store = edit_store(root, tmp_path / "renamed", ["tug", "steep", "slanted"], edit)
    again = finetune(
        correction_recipe(run, [f"data.root={store}", *STILL]), tmp_path / "runs"
    )
    old = Bundle.load(run)
    new = Bundle.load(again.folder)
    assert new.classes == ("tug", "steep", "slanted", "flat") and new.train_counts == (
        24,
        12,
        4,
        0,
    )
    assert again.metadata["start"]["new_classes"] == ["tug"]
    assert again.metadata["start"]["classes_without_chips"] == ["flat"]
    assert "no training chip of flat" in caplog.text
    rows = [new.classes.index(name) for name in old.classes]
    assert torch.allclose(logits(again.folder)[:, rows], logits(run), atol=1e-6)
    weight = new.tensors["head.weight"]
    assert weight[0].norm() == pytest.approx(
        float(weight[1:].norm(dim=1).mean()), rel=1e-4
    )
    # the new row is the mean direction of the features of its chips
    with torch.no_grad():
        model = load_classifier(new, "cpu")
        from rsft.data.loading.batches import ChipImages

        opened = ChipStore.open(store)
        train = ChipImages(store, opened.split("train"), new.classes, new.contract)
        inputs = [copy_to_device(x, "cpu") for x, _ in train.batches(32)]
        features = torch.cat(list(map(model.features, inputs)))[train.labels == 0]
        mean = torch.nn.functional.normalize(features, dim=1).mean(0)
    assert torch.nn.functional.cosine_similarity(mean, weight[0], dim=0) > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("init", ["linear-probe", "k-shot", "random"])
def test_rows_of_new_classes_by_each_initialization(run, root, tmp_path, init):
    def edit(table):
        table.loc[(table["class"] == "flat") & (table.index % 2 == 0), "class"] = "tug"
        return table

    store = edit_store(
        root, tmp_path / "more", ["flat", "steep", "slanted", "tug"], edit
    )
    again = finetune(
        correction_recipe(run, [f"data.root={store}", f"head.init={init}", *STILL]),
        tmp_path / "runs",
    )
    new = Bundle.load(again.folder)
    lengths = new.tensors["head.weight"].norm(dim=1)
    row = new.classes.index("tug")
    others = torch.cat([lengths[:row], lengths[row + 1 :]])
    assert len(others) == 3
    if init != "random":
        assert lengths[row] == pytest.approx(float(others.mean()), rel=1e-4)
    assert torch.allclose(
        logits(again.folder)[:, :3], logits(run)[:, [0, 2, 1]], atol=1e-6
    )


def test_a_new_class_without_training_chips_is_refused(run, root, tmp_path):
    def edit(table):
        table.loc[(table["class"] == "flat") & (table["split"] == "val"), "class"] = (
            "tug"
        )
        return table

    store = edit_store(
        root, tmp_path / "odd", ["flat", "steep", "slanted", "tug"], edit
    )
    with pytest.raises(RequestError, match=mentions("without a training chip", "tug")):
        finetune(correction_recipe(run, [f"data.root={store}"]), tmp_path / "runs")


def test_a_recipe_that_does_not_agree(run, recipe_file, tmp_path):
    overrides = [
        "peft.rank=2",
        "peft.positions=qv",
        "data.size=40",
        "head.kind=linear",
        "meta=null",
    ]
    with pytest.raises(RecipeError) as caught:
        finetune(
            load_recipe(recipe_file, [*overrides, f"train.start_bundle={run}"]),
            tmp_path / "runs",
        )
    text = str(caught.value)
    assert "5 faults" in text
    assert "peft.rank: found 2; the bundle has 4: set peft.rank to it" in text
    for key in (
        "peft.positions: found qv",
        "data.size: found 40",
        "head.kind: found linear",
        "meta: found null",
    ):
        assert key in text
    assert not (tmp_path / "runs").exists()


def test_damaged_and_missing_bundles(run, recipe_file, tmp_path):
    with pytest.raises(RequestError, match="no bundle found"):
        finetune(start=tmp_path)
    broken = shutil.copytree(run / "bundle", tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"weights.safetensors"):
        finetune(start=broken)
    with pytest.raises(WeightsError, match=r"weights.safetensors"):
        finetune(load_recipe(recipe_file), start=broken)
    with pytest.raises(RequestError, match=mentions("neither a recipe", "bundle")):
        finetune()


def test_blocks_to_train_need_a_bundle(recipe_file):
    with pytest.raises(RecipeError, match=r"nothing without train\.start_bundle"):
        load_recipe(recipe_file, ["train.last_blocks=1"])


def test_more_blocks_than_the_network_has(run, tmp_path):
    with pytest.raises(RequestError, match=mentions("3 blocks", "fewer than 4")):
        finetune(correction_recipe(run, ["train.last_blocks=4"]), tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "method",
    ["lora", "adaptformer", "vpt-deep", "bitfit", "linear-probe", "lotr", "ssf"],
)
def test_methods(recipe_file, tmp_path, method):
    base = finetune(
        load_recipe(
            recipe_file, [f"peft={{method: {method}}}", "meta=null", "train.epochs=1"]
        ),
        tmp_path,
    )
    still = finetune(correction_recipe(base.folder, STILL), tmp_path)
    assert torch.allclose(logits(still.folder), logits(base.folder), atol=1e-6)
    moved = finetune(correction_recipe(base.folder, ["train.lr=0.05"]), tmp_path)
    before = Bundle.load(base.folder).tensors
    after = Bundle.load(moved.folder).tensors
    blocks = {
        key.split(".")[1]
        for key in before
        if "blocks" in key and not torch.equal(before[key], after[key])
    }
    assert blocks == (set() if method == "linear-probe" else {"1", "2"})


def test_an_ensemble_starts_at_its_own_members(recipe_file, tmp_path):
    overrides = ["train.ensemble_size=2", "train.epochs=1", "meta=null"]
    base = finetune(load_recipe(recipe_file, overrides), tmp_path)
    again = finetune(correction_recipe(base.folder, STILL), tmp_path)
    before = Bundle.load(base.folder).tensors
    after = Bundle.load(again.folder).tensors
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    with pytest.raises(RequestError, match=mentions("2 runs", "trains 1")) as caught:
        finetune(correction_recipe(base.folder, ["train.ensemble_size=1"]), tmp_path)
    assert "members/run-1" in caught.value.hint
    one = finetune(
        correction_recipe(
            base.folder / "members" / "run-2", ["train.ensemble_size=1", *STILL]
        ),
        tmp_path,
    )
    assert one.metadata["status"] == "done"


@pytest.mark.exhaustive
def test_a_resumed_run_needs_no_bundle(run, corrected, tmp_path):
    """The original may be gone: the run has a copy, and its result is that of an
    uninterrupted run."""
    original = shutil.copytree(run / "bundle", tmp_path / "old")
    # a bundle outside of its run does not choose the store
    root = Bundle.load(original).recipe.data.root
    overrides = ["train.checkpoint_steps=1", f"data.root={root}"]
    recipe = correction_recipe(original, overrides)

    class Stop(Exception):
        pass

    from rsft.training.listeners import RunListener

    class Stopper(RunListener):
        def on_step(self, step):
            if step.done == 8:
                raise Stop

    with pytest.raises(Stop):
        finetune(recipe, tmp_path / "runs", Stopper())
    shutil.rmtree(original)
    resumed = finetune(
        recipe, tmp_path / "runs", resume=tmp_path / "runs" / "bars" / "001"
    )
    assert_equal_tensors(corrected.folder, resumed.folder)
    assert resumed.metadata["start"]["bundle"] == str(original)
