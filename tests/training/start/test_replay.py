"""The replay check of a run, and its file."""

import json

import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import collect_outputs
from rsft.training.finetune import finetune
from rsft.training.replay import correction_recipe, replay
from rsft.training.runs.replay_check import ADDED, VALIDATION, read_replay

from .test_start_bundle import edit_store


@pytest.mark.slow
def test_the_file_of_a_run(run, root, tmp_path):
    """The counts are those of the two bundles, added chips have a part of their own, and the file is read again."""

    def edit(table):
        is_added = (table["split"] == "train") & (table["class"] == "slanted")
        return table.assign(added_on=pd.Series(pd.NA, table.index, "string").mask(is_added, "2026-11-26"))

    store = edit_store(root, tmp_path / "more", ["flat", "steep", "slanted"], edit)
    again = finetune(
        correction_recipe(run, [f"data.root={store}", "train.lr=0.1", "train.epochs=2"]), tmp_path / "runs"
    )
    content = json.loads((again.folder / "replay.json").read_text())
    assert content["start_sha256"] == Bundle.load(run).sha256
    assert content["bundle_sha256"] == again.metadata["bundle_sha256"]
    assert [(part["name"], sum(row["chips"] for row in part["classes"])) for part in content["parts"]] == [
        (VALIDATION, 18),
        (ADDED, 4),
    ]
    hits = []
    for folder in (run, again.folder):
        bundle, opened = Bundle.load(folder), ChipStore.open(store)
        chips = ChipImages(store, opened.split("val"), bundle.classes, bundle.contract)
        logits = collect_outputs(load_classifier(bundle, "cpu"), chips.batches(32)).logits
        hits.append(logits.argmax(1) == chips.labels)
    part = replay(again.folder).parts[0]
    assert (part.gained, part.lost) == ((hits[1] & ~hits[0]).sum(), (hits[0] & ~hits[1]).sum())
    assert part.macro_after == pytest.approx(hits[1].mean()) and part.macro_before == pytest.approx(hits[0].mean())
    assert replay(again.folder).sentences()[-1].startswith("added training chips: ")
    assert read_replay(again.folder / "replay.json") == replay(again.folder)
    (again.folder / "replay.json").write_text("{}")
    with pytest.raises(DataError, match="the file is damaged"):
        replay(again.folder)
