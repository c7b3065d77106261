"""Suggestions from a predictions table: which chips, why, and the table that the
analyst fills."""

from pathlib import Path

import numpy as np
import pandas as pd

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import write_prediction_table
from rsft.plugins.suggestions.suggest import (
    COLUMNS,
    suggest_chips,
)
from rsft.utils.tables import write_csv_table

CLASSES = ("cargo", "tug")
METADATA = {"classes": list(CLASSES), "train_counts": {"cargo": 90, "tug": 3}}


def write(folder, tug, name="p.parquet", **columns):
    probabilities = np.array(tug)
    paths = [str(folder / f"cut/{number}.tif") for number in range(len(tug))]
    (folder / "cut").mkdir(exist_ok=True)
    for path in paths:
        Path(path).touch()
    names = [str(number) for number in range(len(tug))]
    table = pd.DataFrame(
        {
            "chip": names,
            "path": paths,
            "class": np.where(probabilities > 0.5, "tug", "cargo"),
        }
    )
    table = table.assign(
        **({"p_cargo": 1 - probabilities, "p_tug": probabilities} | columns),
        geometry=None,
    )
    write_prediction_table(
        PredictionLayer(table, None, CLASSES, METADATA), folder / name
    )
    return folder / name


def test_an_uncertain_chip_of_a_rare_class_comes_first(tmp_path):
    suggestions = suggest_chips(
        write(tmp_path, [0.01, 0.4, 0.6, 0.99], ood_distance=0.5), 2
    )
    assert tuple(suggestions.table.columns) == COLUMNS and suggestions.candidates == 4
    assert [Path(path).name for path in suggestions.table["path"]] == ["2.tif", "1.tif"]
    first = suggestions.table.iloc[0]
    assert first["predicted"] == "tug" and first["class"] == first["verdict"] == ""
    assert first["reason"] == "tug 60 %, cargo 40 %"
    assert suggestions.notes == [
        "the table has no class sets: uncertainty is the margin alone"
    ]


def test_a_chip_unlike_the_training_chips_comes_first(tmp_path):
    sets = ["cargo | tug"] * 3
    columns = {
        "class_set": sets,
        "ood_distance": [0.2, 1.25, 0.9],
        "scene": "s.tif",
        "at": [5, 6, None],
    }
    path = write(tmp_path, [0.3, 0.3, 0.3], **columns)
    table = suggest_chips(path, 1).table
    assert table["at"].tolist() == ["6"] and table["scene"].tolist() == ["s.tif"]
    assert table["reason"][0].endswith(
        "cargo 70 %, tug 30 %; unlike the training chips (1.2 times the limit)"
    )


def test_identical_chips_are_suggested_once_unless_nothing_else_is_left(tmp_path):
    path = write(tmp_path, [0.5] * 60 + [0.1, 0.2, 0.9], ood_distance=0.5)
    chips = [int(chip) for chip in suggest_chips(path, 4).predictions["chip"]]
    assert chips[0] == 0 and sorted(chips[1:]) == [60, 61, 62]
    assert len(suggest_chips(path, 500).table) == 63


def test_labeled_rows_are_left_out(tmp_path):
    path = write(
        tmp_path, [0.4, 0.5, 0.6], corrected=["cargo", None, "unsure"], ood_distance=0.5
    )
    suggestions = suggest_chips(path, 9)
    assert suggestions.predictions["chip"].tolist() == ["1"]
    assert "rows that have a label already: 2" in suggestions.notes


def test_a_table_without_training_counts(tmp_path):
    path = write(tmp_path, [0.4, 0.6], "p.csv", ood_distance=0.5)
    note = "the table has no training chips by class: rarity is that of the predictions"
    assert note in suggest_chips(path, 1).notes


def test_a_table_without_rows(tmp_path):
    suggestions = suggest_chips(write(tmp_path, []), 5)
    assert suggestions.table.empty and suggestions.candidates == 0
    write_csv_table(suggestions.table, tmp_path / "s.csv")
    assert (
        tmp_path / "s.csv"
    ).read_text() == "path,class,verdict,predicted,scene,at,reason,chip,row,col,table\n"


def test_chips_without_files_are_noted(tmp_path):
    path = write(
        tmp_path,
        [0.4, 0.5, 0.6],
        path=["scenes/s.tif", "cut/gone.tif", str(tmp_path)],
        scene="s.tif",
    )
    notes = suggest_chips(path, 9).notes
    (note,) = [note for note in notes if "no file of their own" in note]
    assert note.startswith("2 chips") and "--chips DIR" in note
