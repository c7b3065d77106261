"""What the commands print of their results."""

import json
from pathlib import Path

from rsft.cli.display.results import show_archive
from rsft.inference.archive import ArchiveResult, SceneResult


def test_an_archive_is_counted_and_failures_have_their_reasons(capsys):
    scenes = [
        SceneResult(
            "a.tif", "done", chips=10, rejected=2, ood=8, class_sets="withheld"
        ),
        SceneResult("b.tif", "skipped", chips=4, ood=1),
        SceneResult("c.tif", "failed", reason="the file is not an image"),
    ]
    archive = ArchiveResult(scenes, Path("out/scenes.csv"))
    show_archive(archive, as_json=False)
    # wherever the lines are broken
    assert " ".join(capsys.readouterr().out.split()) == (
        "scenes: 1 done, 1 skipped, 1 failed; 14 chips classified failed c.tif: the"
        " file is not an image scenes 1 skipped: the folder already contains their"
        " outputs for this bundle and this request 2 chips rejected, listed in"
        " <scene>.rejected.csv scenes out/scenes.csv chips 9 of 14 are unlike the"
        " training chips scenes 1 class sets withheld: most chips are unlike the"
        " training chips"
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
