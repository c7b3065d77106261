"""The simulated analyst draws, labels and reports as its page says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.chip_tables import write_manifest_store
from tools.reproduction import simulated_analyst as tool

CLASSES = ("cargo", "tug")


@pytest.fixture
def store(tmp_path):
    names = [f"{number:02}" for number in range(30)]
    labels = ["tug", *["cargo"] * 19, *CLASSES * 5]
    splits = ["train"] * 20 + ["val"] * 10
    columns = {
        "name": names,
        "path": [f"chips/{name}.png" for name in names],
        "class": labels,
        "split": splits,
    }
    return write_manifest_store(tmp_path / "pool", CLASSES, tail=["tug"], **columns)


def write_predictions(path, names):
    tug = np.linspace(0.05, 0.45, len(names))
    rows = {
        "path": [f"{name}.png" for name in names],
        "class": "cargo",
        "probability": 1 - tug,
    }
    pd.DataFrame(
        rows | {"p_cargo": 1 - tug, "p_tug": tug, "ood_distance": 0.5}
    ).to_parquet(path)


def test_labeled_chips_become_training_and_validation_chips(store, tmp_path):
    labeled, unlabeled = tool.label_store(
        store, ["00", "05", "06", "07", "08", "09"], 0, tmp_path / "work/store"
    )
    assert labeled.table["split"].value_counts().to_dict() == {
        "test": 10,
        "train": 5,
        "val": 1,
    }
    # the only chip of its class is a training chip
    assert labeled.split("train")["name"].iloc[0] == "00"
    assert (
        len(unlabeled) == 14
        and "chips/00.png" not in unlabeled
        and (labeled.root / "chips").is_dir()
    )


def test_strategies(tmp_path):
    write_predictions(tmp_path / "p.parquet", ["a", "b", "c", "d"])
    chosen = {
        name: choose(tmp_path / "p.parquet", 2, np.random.default_rng(0))
        for name, choose in tool.STRATEGIES.items()
    }
    assert (
        chosen["least certain"] == ["d.png", "c.png"]
        and len(set(chosen["random"])) == 2
    )
    assert [Path(path).name for path in chosen["suggest"]] == ["d.png", "b.png"]


def test_rounds_are_continued(store, tmp_path, monkeypatch):
    trained = []

    def train_and_test(analyst, names, seed, work):
        work.mkdir(parents=True)
        pool = store.split("train")["name"]
        write_predictions(work / "pool.parquet", pool[~pool.isin(names)].tolist())
        trained.append((work.name, len(names)))
        return {"cargo": 50.0 + len(names), "tug": 10.0 * seed}, work / "pool.parquet"

    monkeypatch.setattr(tool, "_train_and_test", train_and_test)
    analyst = tool.Analyst(
        store, tmp_path / "out", "quickstart", (), start=4, batch=5, rounds=2
    )
    for strategy in ("random", "suggest", "suggest"):
        tool.label_rounds(analyst, strategy, 1)
    sizes = [
        ("start-0-1", 4),
        ("random-1-1", 9),
        ("random-2-1", 14),
        ("suggest-1-1", 9),
        ("suggest-2-1", 14),
    ]
    assert trained == sizes
    rounds = tool.read_rounds(tmp_path / "out")
    assert (
        list(rounds) == ["random", "suggest"]
        and rounds["random"][0, 1] == rounds["suggest"][0, 1]
    )
    assert len(set(rounds["suggest"][2, 1].chips)) == 14
    lines = tool.format_table(rounds, store.groups).splitlines()
    assert (
        lines[2].startswith("| 4 | 1 | 32.0 | 32.0 | +0.0 ± nan | 10.0 | 10.0 |")
        and len(lines) == 5
    )


def test_table_has_paired_intervals():
    def make(macro):
        return tool.Round(["x"] * 4, {"cargo": macro, "tug": macro}, 1.0)

    rounds = {
        "random": {(0, 0): make(50), (0, 1): make(60), (1, 0): make(1)},
        "suggest": {(0, 0): make(52), (0, 1): make(64), (0, 2): make(99)},
    }
    lines = tool.format_table(rounds, {"tail": ["tug"]}).splitlines()
    assert lines[2:] == [
        "| 4 | 2 | 55.0 | 58.0 | +3.0 ± 12.7 | 55.0 | 58.0 | +3.0 ± 12.7 |"
    ]
