"""`rsft audit`: output, JSON file and exit code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder

Rsft = Callable[..., tuple[int, str]]


def test_findings_are_written_and_strict_exits_with_1(rsft, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "copy")
    first, other = (
        tmp_path / f"copy/{name}/0.png" for name in ("train/flat", "train/steep")
    )
    shutil.copyfile(first, other)
    code, printed = rsft(
        "audit", tmp_path / "copy", "--jobs", "1", "-o", "findings.json", "--strict"
    )
    assert code == 1 and "flat" in printed
    [audit] = json.loads(Path("findings.json").read_text("utf-8"))
    assert audit["clean"] is False


def test_audit_of_a_chip_store_is_written_into_it(rsft, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    code, printed = rsft("audit", tmp_path / "copy", "--jobs", "1")
    assert code == 0 and "names in two splits" in printed
    assert (tmp_path / "copy/audit.json").is_file()


def test_audit_of_class_folders_writes_nothing(rsft, class_folders):
    before = sorted(class_folders.rglob("*"))
    code, printed = rsft("audit", class_folders, "--jobs", "1")
    assert (
        code == 0
        and "train rows" in printed
        and sorted(class_folders.rglob("*")) == before
    )


def test_missing_folder_is_refused(rsft, tmp_path):
    code, printed = rsft("audit", tmp_path / "nowhere")
    assert code == 2 and "the folder does not exist" in printed


@pytest.mark.slow
def test_wrong_labels_are_found_and_corrected(rsft, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "source")
    wrong = tmp_path / "source/train/steep/wrong.png"
    (tmp_path / "source/train/flat/0.png").rename(wrong)
    store = prepare_folder(tmp_path / "source", tmp_path / "store")
    code, printed = rsft(
        "audit",
        "store",
        "--labels",
        "-o",
        "labels.csv",
        "--html",
        "labels.html",
        "--count",
        3,
    )
    assert (
        code == 0
        and "proposed class" in printed
        and "labels that are contradicted" in printed
    )
    table = pd.read_csv("labels.csv", dtype=object)
    first = table.iloc[0]
    assert first["path"].endswith("chips/train/steep/wrong.png") and len(table) <= 3
    assert (first["label"], first["predicted"]) == ("steep", "flat") and Path(
        "labels.html"
    ).is_file()
    assert (
        not (store.root / "audit.json").exists()
        and not (store.root / ".cache").exists()
    )
    # the file exists
    assert rsft("audit", "store", "--labels", "-o", "labels.csv")[0] == 2

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
    code, printed = rsft("audit", "store", "--labels")
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
    code, printed = rsft("audit", "store", "--labels", "--html", "labels.html")
    assert (
        code == 0
        and "labels that are contradicted: 0 of 12" in printed
        and not Path("labels.html").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels"], "not a chip store"),
        (["--labels", "--strict"], "--strict"),
        (["--count", "3"], "--labels"),
        (["--labels", "-o", "labels.txt"], ".csv"),
        (["--labels", "--html", "page.csv"], ".html"),
    ],
)
def test_arguments_that_do_not_fit(rsft, class_folders, arguments, words):
    code, printed = rsft("audit", class_folders, *arguments)
    assert code == 2 and words in printed
