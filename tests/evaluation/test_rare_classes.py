from types import SimpleNamespace

import numpy as np
import pytest

from rsft.evaluation import rare_classes
from rsft.evaluation.rare_classes import RareClass, count_held_out


def test_a_rare_class_among_chips_of_a_common_one_is_not_recognized():
    """Three tugs lie apart; two ferries lie where the cargo ships are."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [40, 3, 2, 1])
    centers = np.array([[0, 0], [20, 0], [0, 0], [0, 30]])
    features = centers[labels] + rng.normal(size=(46, 2))
    names = ("Cargo", "Tug", "Ferry", "Yacht", "Canoe")
    tug, ferry, yacht = count_held_out(features, labels, names)
    assert tug == RareClass("Tug", 3, 3, 0)
    assert ferry[:2] == ("Ferry", 2) and ferry.right < 2 <= ferry.wrong
    assert yacht == RareClass("Yacht", 1, 0, 0)
    assert str(tug) == (
        "Tug: 3 of 3 chips are recognized, and 0 of other classes are taken for it"
    )


@pytest.mark.parametrize(
    ("counts", "is_checked"),
    [((12, 10), False), ((12, 9), True), ((10, 9), True), ((9, 9), False)],
)
def test_only_rare_classes_beside_others_are_checked(counts, is_checked, monkeypatch):
    names = ("a", "b")
    labels = np.repeat(names, counts)
    bundle = SimpleNamespace(classes=names)
    store = SimpleNamespace(root="", split=lambda name: {"class": labels})
    features = np.random.default_rng(0).normal(size=(len(labels), 2))
    features[: counts[0]] += 20
    monkeypatch.setattr(
        rare_classes, "classify_chips", lambda *_: SimpleNamespace(features=features)
    )
    checked = rare_classes.check_rare_classes(bundle, store)
    assert [entry.name for entry in checked] == [
        name for name, count in zip(names, counts, strict=True) if count < 10
    ] * is_checked
