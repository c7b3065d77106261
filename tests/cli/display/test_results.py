"""What the commands print of their results."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd

from rsft.cli.display.results import show_addition, show_archive, show_predictions
from rsft.corrections.add import AdditionResult, CorrectionSummary
from rsft.inference.archive import ArchiveResult
from rsft.inference.predict.result import PredictionResult
from rsft.inference.scene_table import SceneResult, SceneTable

CLASSES = tuple(f"class {number:03}" for number in range(1_000))


def test_predictions_of_a_thousand_classes_name_the_most_frequent_ones(capsys):
    table = pd.DataFrame({"class": [*CLASSES, "class 777", "class 333", "class 777"]})
    show_predictions(PredictionResult(table, [], CLASSES, Path("out.csv"), None))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert lines[0].strip() == "1,003 chips classified"
    rows = [line.split() for line in lines if line.strip().startswith("class ")]
    assert rows.pop(0) == ["class", "chips"]
    assert rows[0] == ["class", "777", "3"] and rows[1] == ["class", "333", "2"]
    assert any("… 985 more in out.csv" in line for line in lines)


def test_corrected_labels_of_a_thousand_classes(capsys):
    added = Counter({("train", name): 2 for name in CLASSES})
    result = AdditionResult(added=added)
    summary = CorrectionSummary(Path("t.csv"), Path("store"), Counter(), None, result)
    show_addition(summary)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    manifest = Path("store/manifest.parquet")
    assert any(f"… 985 more in {manifest}" in line for line in lines)


def test_an_archive_is_counted_and_failures_have_their_reasons(
    capsys, tmp_path, monkeypatch
):
    scenes = [
        SceneResult(
            "a.tif", "done", chips=10, rejected=2, ood=8, class_sets="withheld"
        ),
        SceneResult("b.tif", "skipped", chips=4, ood=1),
        SceneResult("c.tif", "failed", reason="the file is not an image"),
    ]
    monkeypatch.chdir(tmp_path)
    archive = ArchiveResult(Path("out/scenes.csv"))
    table = SceneTable(archive.summary_path)
    for scene in scenes:
        table.add(scene)
    table.close()
    show_archive(archive, as_json=False)
    # wherever the lines are broken
    assert " ".join(capsys.readouterr().out.split()) == (
        "scenes 1 done scenes 1 without class sets, as most chips are unlike the"
        " training scenes 1 skipped scenes 1 failed failed c.tif: the file is not an"
        " image chips 14 classified chips 9 unlike the training chips chips 2 rejected,"
        " see <scene>.rejected.csv scenes out/scenes.csv"
    )
    show_archive(archive, as_json=True)
    *events, done = map(json.loads, capsys.readouterr().out.splitlines())
    assert [event["scene"] for event in events] == ["a.tif", "b.tif", "c.tif"]
    assert done == {
        "event": "done",
        "scenes": "out/scenes.csv",
        "done": 1,
        "skipped": 1,
        "failed": 1,
    }
