"""Texts about corrected labels and the replay check."""

import json
from collections import Counter
from pathlib import Path

from rsft_qgis import correction_texts as texts
from rsft_qgis.json_lines import Result, parse_line

from rsft.cli.display.results import emit_addition
from rsft.corrections.add import CorrectionSummary
from rsft.data.chips.additions import AdditionResult

REPLAYED = [
    {
        "name": "<b>",
        "chips": 20,
        "before": 0.5,
        "after": 0.75,
        "gained": 6,
        "lost": 1,
        "p": 0.125,
    },
    {
        "name": "clutter",
        "chips": 4,
        "before": None,
        "after": 1.0,
        "gained": 4,
        "lost": 0,
        "p": 1.0,
    },
]
REPLAY = {
    "parts": [{"name": "validation chips", "classes": REPLAYED}],
    "terms": {"Recall": "the share <of> chips"},
    "sentences": ["no class lost more chips than chance explains"],
}


def test_what_became_of_the_rows(capsys):
    added = Counter({("train", "cargo"): 3})
    relabeled = Counter({("cargo", "tanker"): 1})
    rejected = [("t.gpkg", number, "outside") for number in range(1, 13)]
    result = AdditionResult(
        added=added, relabeled=relabeled, rejected=rejected, notes=["a note"]
    )
    verdicts = Counter({"": 2, "unsure": 1, "cargo": 17})
    emit_addition(CorrectionSummary(Path("t.gpkg"), Path("s"), verdicts, None, result))
    event = parse_line(capsys.readouterr().out)
    assert (
        isinstance(event, Result)
        and event.count("added") == 3
        and event.count("rejected") == 12
    )
    changes = [
        "added: 3 cargo to train",
        "relabeled: 1, cargo is now tanker",
        "unsure: 1",
        "not looked at: 2",
    ]
    assert texts.addition_lines(event) == [*changes, "a note"]
    first, *_, last = texts.rejection_lines(event)
    assert (first, last) == ("row 1 rejected: outside", "and 2 more")
    assert (
        texts.addition_lines(Result()) == ["the layer has no rows"]
        and texts.rejection_lines(Result()) == []
    )


def test_replay_check(tmp_path):
    path = tmp_path / "replay.json"
    path.write_text(json.dumps(REPLAY))
    replay = texts.read_replay(Result({"replay": str(path)}))
    assert replay == REPLAY
    assert texts.replay_lines(replay) == [
        "validation chips: class, chips, recall before, recall after, gained, lost, p",
        "  <b>, 20, 50.0 %, 75.0 %, 6, 1, 0.12",
        "  clutter, 4, new class, 100.0 %, 4, 0, 1",
        "no class lost more chips than chance explains",
    ]
    page = texts.replay_page(replay, "runs/<x>")
    assert (
        "<td>&lt;b&gt;</td><td>20</td>" in page
        and "runs/&lt;x&gt;" in page
        and page.count("<tr>") == 3
    )
    assert (
        "<dt><b>Recall</b></dt><dd>the share &lt;of&gt; chips</dd>"
        in page.partition("<table>")[0]
    )


def test_the_old_bundle(tmp_path):
    assert (
        texts.start_bundle(Result({"run": str(tmp_path)}))
        == texts.start_bundle(Result())
        == ""
    )
    (tmp_path / "run.json").write_text('{"start": {"bundle": "runs/<a>/001/bundle"}}')
    old = texts.start_bundle(Result({"run": str(tmp_path)}))
    assert old == "runs/<a>/001/bundle"
    assert "keep using it: runs/&lt;a&gt;/001/bundle<" in texts.replay_page(
        {}, "b", old
    )
    (tmp_path / "run.json").write_text('{"start": null}')
    assert texts.start_bundle(Result({"run": str(tmp_path)})) == ""


def test_a_run_without_replay_check(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for fields in (
        {},
        {"replay": str(tmp_path)},
        *({"replay": str(x)} for x in tmp_path.iterdir()),
    ):
        assert texts.read_replay(Result(fields)) == {}
    assert texts.replay_lines({}) == [] and "no replay check" in texts.replay_page(
        {}, "b"
    )
