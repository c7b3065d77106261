"""The replay check of a run, and its file."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError, RequestError
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import describe_bundle
from rsft.models.loading import load_classifier
from rsft.recipe.schema import Recipe, SemiSection, TrackSection
from rsft.training.finetune import finetune
from rsft.training.parts.pseudo_labels import PseudoLabeler
from rsft.training.replay import correction_recipe, replay
from rsft.training.runs.replay_file import ADDED, VALIDATION, read_replay
from tests.helpers.plugins import needs_plugin

from .init.test_start_bundle import edit_store


def test_a_correction_takes_no_unlabeled_chips(run, tmp_path):
    """It does not change the images, which pseudo-labels need."""
    bundle = Bundle.load(run)
    data = bundle.recipe.data.model_copy(update={"unlabeled": "archive"})
    recipe = bundle.recipe.model_copy(update={"data": data, "semi": SemiSection()})
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    corrected = correction_recipe(
        tmp_path / "bundle", [f"data.root={bundle.recipe.data.root}"]
    )
    assert (
        corrected.data.unlabeled is None
        and corrected.semi is None
        and corrected.data.augment == "none"
    )
    PseudoLabeler.check(corrected)


@pytest.mark.parametrize(("trained", "corrected"), [("bf16", "auto"), ("fp32", "fp32")])
def test_a_correction_measures_its_machine(run, tmp_path, trained, corrected):
    """The bundle may come from a GPU, and the correction run on a processor that
    emulates bfloat16."""
    bundle = Bundle.load(run)
    train = bundle.recipe.train.model_copy(update={"precision": trained})
    replace(bundle, recipe=bundle.recipe.model_copy(update={"train": train})).save(
        tmp_path / "bundle"
    )
    folder = tmp_path / "bundle"
    root = f"data.root={bundle.recipe.data.root}"
    assert correction_recipe(folder, [root]).train.precision == corrected
    assert (
        correction_recipe(folder, [root, "train.precision=bf16"]).train.precision
        == "bf16"
    )


@needs_plugin("trackers")
@pytest.mark.parametrize("was_corrected", [False, True])
def test_the_recipe_of_a_stranger_does_not_act(run, tmp_path, caplog, was_corrected):
    """Losses and keys of the run would go to his server."""
    bundle = Bundle.load(run)
    values = bundle.recipe.model_dump(mode="json", exclude_unset=True)
    values["data"] |= {"unlabeled": "/home/me/photos", "workers": 7, "augment": "sar"}
    values["track"] = {
        "to": ["mlflow"],
        "uri": "http://127.0.0.1:9/x",
        "project": "theirs",
        "every": 1,
    }
    values["train"] |= {"devices": 2, "device": "cpu"} | (
        {"start_bundle": "/gone"} if was_corrected else {}
    )
    values["semi"] = {"ratio": 2}
    recipe = Recipe.model_validate(values)
    replace(bundle, recipe=recipe).save(tmp_path / "bundle")
    folder = tmp_path / "bundle"
    root = f"data.root={recipe.data.root}"
    with pytest.raises(RequestError, match=r"data\.root=STORE"):
        correction_recipe(folder)
    corrected = correction_recipe(folder, [root])
    assert (corrected.track, corrected.semi, corrected.data.unlabeled) == (
        TrackSection(),
        None,
        None,
    )
    assert (
        corrected.train.devices,
        corrected.train.device,
        corrected.data.workers,
    ) == (1, "auto", "auto")
    assert (
        corrected.train.start_bundle == str(folder)
        and corrected.peft == bundle.recipe.peft
    )
    assert (
        "track.uri=http://127.0.0.1:9/x" in caplog.text
        and "data.unlabeled=/home/me/photos" in caplog.text
    )
    caplog.clear()
    chosen = correction_recipe(
        folder,
        [root, "track.to=[mlflow]", "track.uri=sqlite:///mine.db", "train.device=cpu"],
    )
    assert (chosen.track.to, chosen.track.uri, chosen.track.project) == (
        ["mlflow"],
        "sqlite:///mine.db",
        "rsft",
    )
    assert (
        chosen.train.device == "cpu"
        and "track.uri" not in caplog.text
        and "track.project" in caplog.text
    )
    ignored = describe_bundle(folder)["ignored"]
    assert (
        ignored["track.uri"] == "http://127.0.0.1:9/x"
        and ignored["data.root"] == recipe.data.root
    )
    assert {
        "train.devices": 2,
        "data.workers": 7,
        "track.to": ["mlflow"],
    }.items() <= ignored.items()


def test_the_recipe_of_a_run_names_its_chips(run):
    assert correction_recipe(run).data.root == Bundle.load(run).recipe.data.root
    assert "data.root" not in describe_bundle(run)["ignored"]


def test_a_correction_without_added_chips_has_few_epochs(run, root, tmp_path):
    def edit(table):
        return table.assign(added_on=pd.Series("2026-11-26", table.index, "string"))

    more = edit_store(root, tmp_path / "more", ["flat", "steep", "slanted"], edit)
    corrected, other = (
        correction_recipe(run, [f"data.root={store}"]).train for store in (more, root)
    )
    assert (corrected.epochs, corrected.until_added_right, corrected.repeat_added) == (
        30,
        True,
        "auto",
    )
    assert (other.epochs, other.until_added_right) == (5, False)
    assert (
        correction_recipe(run, [f"data.root={more}", "train.epochs=9"]).train.epochs
        == 9
    )


@pytest.mark.slow
def test_the_file_of_a_run(run, root, tmp_path):
    """The counts are those of the two bundles, added chips have a part of their own,
    and the file is read again."""

    def edit(table):
        is_added = (table["split"] == "train") & (table["class"] == "slanted")
        return table.assign(
            added_on=pd.Series(pd.NA, table.index, "string").mask(
                is_added, "2026-11-26"
            )
        )

    store = edit_store(root, tmp_path / "more", ["flat", "steep", "slanted"], edit)
    recipe = correction_recipe(
        run, [f"data.root={store}", "train.lr=0.1", "train.epochs=2"]
    )
    again = finetune(recipe, tmp_path / "runs")
    content = json.loads((again.folder / "replay.json").read_text())
    assert content["start_sha256"] == Bundle.load(run).sha256
    assert content["bundle_sha256"] == again.metadata["bundle_sha256"]
    chips = {
        part["name"]: sum(row["chips"] for row in part["classes"])
        for part in content["parts"]
    }
    assert list(chips.items()) == [(VALIDATION, 18), (ADDED, 4)]
    hits = []
    for folder in (run, again.folder):
        bundle = Bundle.load(folder)
        opened = ChipStore.open(store)
        chips = ChipImages(store, opened.split("val"), bundle.classes, bundle.contract)
        logits = collect_outputs(
            load_classifier(bundle, "cpu"), chips.batches(32)
        ).logits
        hits.append(logits.argmax(1) == chips.labels)
    part = replay(again.folder).parts[0]
    assert (part.gained, part.lost) == (
        (hits[1] & ~hits[0]).sum(),
        (hits[0] & ~hits[1]).sum(),
    )
    assert part.macro_after == pytest.approx(
        hits[1].mean()
    ) and part.macro_before == pytest.approx(hits[0].mean())
    assert replay(again.folder).sentences()[-1].startswith("added training chips: ")
    assert read_replay(again.folder / "replay.json") == replay(again.folder)
    (again.folder / "replay.json").write_text("{}")
    with pytest.raises(DataError, match="the file is damaged"):
        replay(again.folder)
