"""Commands that suggest chips to label, and find wrong labels."""

import json
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder
from rsft.plugins.suggestions.suggest import COLUMNS
from tests.helpers.style import ROOT

COMPAT = ROOT / "tests/compat/0.2"


@pytest.fixture
def suggest(rsft):
    return partial(rsft, "data", "suggest")


@pytest.mark.slow
def test_suggest_from_a_table_of_an_earlier_version(suggest, tmp_path):
    table = COMPAT / "run_predictions.csv"
    out = tmp_path / "suggested.csv"
    code, printed = suggest(table, "--count", "3", "-o", out)
    assert (
        code == 0
        and "3 of 12 chips" in printed
        and "fill in class or verdict" in printed
    )
    assert "no training chips by class" in printed
    rows = pd.read_csv(out, keep_default_na=False)
    assert rows.columns.tolist() == list(COLUMNS)
    assert len(rows) == 3 and set(rows["class"]) == set(rows["verdict"]) == set(
        rows["table"]
    ) == {""}
    code, printed = suggest(table, "-o", out)
    assert code == 2 and "the file exists already" in printed
    code, printed = suggest(table, "--count", "99")
    assert code == 0 and "12 of 12 chips" in printed


def test_suggest_is_refused(suggest, tmp_path):
    code, printed = suggest(tmp_path / "none.csv")
    assert code == 2 and "no such file" in printed
    assert suggest(tmp_path / "none.csv", "--count", "0")[0] == 2


@pytest.mark.slow
def test_wrong_labels_are_found_and_corrected(rsft, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "source")
    wrong = tmp_path / "source/train/steep/wrong.png"
    (tmp_path / "source/train/flat/0.png").rename(wrong)
    store = prepare_folder(tmp_path / "source", tmp_path / "store")
    code, printed = rsft(
        "data",
        "suggest",
        "store",
        "-o",
        "labels.csv",
        "--count",
        3,
    )
    assert code == 0 and "labels that are contradicted" in printed
    table = pd.read_csv("labels.csv", dtype=object)
    first = table.iloc[0]
    assert first["path"].endswith("chips/train/steep/wrong.png") and len(table) <= 3
    assert (first["label"], first["predicted"]) == ("steep", "flat")
    assert (
        not (store.root / "audit.json").exists()
        and not (store.root / ".cache").exists()
    )
    # the file exists
    assert rsft("data", "suggest", "store", "-o", "labels.csv")[0] == 2

    # what the review page saves
    saved = table.assign(verdict=["class", *["unsure"] * (len(table) - 1)])
    saved.loc[0, "class"] = "flat"
    saved[["path", "class", "verdict", "predicted", "scene", "at"]].to_csv(
        "corrected.csv", index=False
    )
    code, printed = rsft("data", "add", "store", "corrected.csv")
    assert code == 0 and "steep is now flat" in printed
    row = ChipStore.open(store.root).table.set_index("name").loc["wrong"]
    assert (row["class"], row["added_previous"], row["added_predicted"]) == (
        "flat",
        "steep",
        "flat",
    )
    assert (
        row["added_from"] == "corrected.csv"
        and row["path"] == "chips/train/steep/wrong.png"
    )
    addition = json.loads((store.root / "dataset.json").read_text("utf-8"))[
        "additions"
    ][0]
    assert (
        addition["relabeled"] == [{"from": "steep", "to": "flat", "chips": 1}]
        and addition["added"] == []
    )
    code, printed = rsft("data", "suggest", "store")
    assert code == 0 and "wrong.png" not in printed


@pytest.mark.slow
def test_a_store_of_right_labels_gets_no_page(rsft, tmp_path):
    for name, value in (("dark", 20), ("bright", 220)):
        (tmp_path / "source" / name).mkdir(parents=True)
        for index in range(6):
            pixels = (
                np.random.default_rng(index + value).integers(0, 20, (16, 16)) + value
            )
            cv2.imwrite(
                str(tmp_path / "source" / name / f"{index}.png"),
                pixels.astype(np.uint8),
            )
    prepare_folder(tmp_path / "source", tmp_path / "store", val=0)
    code, printed = rsft("data", "suggest", "store", "-o", "labels.html")
    assert (
        code == 0
        and "labels that are contradicted: 0 of 12" in printed
        and not Path("labels.html").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "labels.txt"], ".csv"),
    ],
)
def test_arguments_that_do_not_fit(rsft, class_folders, arguments, words):
    code, printed = rsft("data", "suggest", class_folders, *arguments)
    assert code == 2 and words in printed


@pytest.mark.slow
def test_folder_without_labels(suggest, rsft, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "chips").mkdir()
    for number in range(12):
        image = rng.integers(0, 60, (24, 24), np.uint8) + np.uint8(90 * (number % 2))
        cv2.imwrite(str(tmp_path / f"chips/{number}.png"), image)
    code, printed = suggest("chips", "-o", "classes.html")
    assert code == 0 and "1 of 12 chips" in printed
    assert "your labels choose the next ones" in printed
    page = (tmp_path / "classes.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 12 and "rsft finetune labels.csv" in page
    code, printed = suggest("chips", "-o", "first.csv", "--count", "4")
    assert code == 0 and "rsft finetune TABLE" in printed
    table = pd.read_csv(tmp_path / "first.csv")
    assert len(table) == 4
    table["class"] = ["dark", "bright"] * 2
    table.to_csv(tmp_path / "first.csv", index=False)
    code, printed = rsft("prepare", "folder", "first.csv", "--root", "store")
    assert code == 0 and len(ChipStore.open(tmp_path / "store").table) == 4
    (tmp_path / "text.txt").write_text("no table")
    code, printed = suggest("text.txt")
    assert code == 2 and "give a chip store" in printed
    code, printed = suggest("first.csv", "--unit", "db")
    assert code == 2 and "--unit" in printed
