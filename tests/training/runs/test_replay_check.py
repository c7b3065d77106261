"""Gained and lost chips by class, their tests, and the content of replay.json."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from rsft.errors import DataError
from rsft.training.runs.replay_check import TERMS, VALIDATION, Replay, compare_by_class, read_replay


def part_of(*triples, classes=("a", "b"), old=("a", "b")):
    labels, before, after = (np.array(x, str) for x in zip(*triples, strict=True))
    return compare_by_class(VALIDATION, labels, before, after, classes, old)


def test_gained_and_lost_chips():
    part = part_of(("a", "a", "a"), ("a", "b", "a"), ("a", "a", "b"), ("a", "a", "b"), ("b", "a", "b"), ("b", "a", "a"))
    first, second = part.classes
    assert (first.name, first.chips, first.before, first.after, first.gained, first.lost) == ("a", 4, 0.75, 0.5, 1, 2)
    assert (second.name, second.chips, second.before, second.after, second.gained, second.lost) == (
        "b",
        2,
        0,
        0.5,
        1,
        0,
    )
    assert (part.macro_before, part.macro_after) == (0.375, 0.5)
    assert (part.chips, part.gained, part.lost) == (6, 2, 2) and part.p == 1


def test_a_new_class_is_not_in_the_means():
    part = part_of(("a", "a", "a"), ("c", "a", "c"), classes=("c", "a"), old=("a", "b"))
    assert [(row.name, row.before, row.after) for row in part.classes] == [("c", None, 1.0), ("a", 1.0, 1.0)]
    assert (part.macro_before, part.macro_after) == (1.0, 1.0)
    assert part_of(("c", "a", "c"), classes=("c",), old=("a",)).macro_before is None


def test_a_loss_beyond_chance_is_said():
    chips = [("a", "a", "b")] * 12 + [("a", "b", "a")] + [("b", "b", "b")] * 5
    part = part_of(*chips)
    assert part.classes[0].p == pytest.approx(2 * binomtest(1, 13).pvalue) and part.classes[1].p == 1
    assert part.classes[0].lost_more_than_chance
    (sentence,) = Replay("x", "y", (part,)).sentences()
    assert sentence.startswith("a lost 12 and gained 1 of 13 validation chips: more than chance explains (McNemar's")
    quiet = part_of(*[("a", "a", "b")] * 3, ("b", "b", "b"))
    assert Replay("x", "y", (quiet,)).sentences()[0].startswith("no class lost more chips than chance explains")
    gain = part_of(*[("a", "b", "a")] * 12)
    assert not gain.classes[0].lost_more_than_chance and gain.classes[0].p < 0.01


def test_the_file_keeps_the_check_and_explains_its_terms(tmp_path):
    check = Replay("x", "y", (part_of(("a", "a", "b"), ("b", "b", "b")),))
    path = tmp_path / "replay.json"
    assert read_replay(path) is None
    path.write_text(json.dumps(check.to_dict()))
    assert read_replay(path) == check and json.loads(path.read_text())["terms"] == TERMS
    path.write_text("[]")
    with pytest.raises(DataError, match="the file is damaged"):
        read_replay(path)
