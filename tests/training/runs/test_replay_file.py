"""Gained and lost chips of a replay, and its file."""

import json
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest

from rsft.errors import DataError
from rsft.training.replay import compare_by_class
from rsft.training.runs.replay_file import TERMS, VALIDATION, Replay, read_replay


def part_of(*triples, classes=("a", "b"), old=("a", "b")):
    labels, before, after = (np.array(x, str) for x in zip(*triples, strict=True))
    return compare_by_class(VALIDATION, labels, before, after, classes, old)


def test_gained_and_lost_chips():
    part = part_of(
        ("a", "a", "a"),
        ("a", "b", "a"),
        ("a", "a", "b"),
        ("a", "a", "b"),
        ("b", "a", "b"),
        ("b", "a", "a"),
    )
    first, second = part.classes
    assert astuple(first)[:6] == ("a", 4, 0.75, 0.5, 1, 2) and astuple(second)[:6] == (
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
    assert [(row.name, row.before, row.after) for row in part.classes] == [
        ("c", None, 1.0),
        ("a", 1.0, 1.0),
    ]
    assert (part.macro_before, part.macro_after) == (1.0, 1.0)
    assert part_of(("c", "a", "c"), classes=("c",), old=("a",)).macro_before is None


def test_a_loss_beyond_chance_is_said():
    chips = [("a", "a", "b")] * 12 + [("a", "b", "a")] + [("b", "b", "b")] * 5
    part = part_of(*chips)
    assert (
        part.classes[0].p == pytest.approx(2 * binomtest(1, 13).pvalue)
        and part.classes[1].p == 1
    )
    assert part.classes[0].lost_more_than_chance
    (sentence,) = Replay("x", "y", (part,)).sentences()
    assert sentence.startswith(
        "a lost 12 and gained 1 of 13 validation chips: more than chance explains"
        " (McNemar's"
    )
    few = part_of(*[("a", "a", "b")] * 3, ("b", "b", "b"))
    (sentence,) = Replay("x", "y", (few,)).sentences()
    assert sentence.startswith(
        "a fell from 100 to 0 % (lost 3 and gained 0 of 3 validation chips): too few"
        " chips to"
    )
    assert (
        few.classes[0].fell
        and not few.classes[0].lost_more_than_chance
        and not few.classes[1].fell
    )
    quiet = part_of(*[("a", "a", "a")] * 20, *[("b", "b", "b")] * 15)
    (sentence,) = Replay("x", "y", (quiet,)).sentences()
    assert (
        sentence
        == "no class fell by 10 points or more; with 15 chips of b, a fall of 22 points"
        " is not excluded"
    )
    assert quiet.classes[1].largest_fall == pytest.approx(1 - 0.025 ** (1 / 15))
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
