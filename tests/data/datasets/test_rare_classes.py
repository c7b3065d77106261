import pytest

from rsft.data.datasets.rare_classes import find_rare, resolve_rare

LABELS = ["cargo"] * 30 + ["tug"] * 9 + ["pilot"] + ["tanker"] * 10
CLASSES = ["cargo", "tug", "pilot", "tanker"]


@pytest.mark.parametrize(
    ("choice", "changed"),
    [
        (None, {}),
        ("keep", {}),
        ("merge", {"tug": "other", "pilot": "other"}),
        ("drop", {"tug": None, "pilot": None}),
    ],
)
def test_classes_of_less_than_ten_chips_are_kept_merged_or_left_out(choice, changed):
    expected = {**dict(zip(CLASSES, CLASSES, strict=True)), **changed}
    resolved = resolve_rare(CLASSES, LABELS, choice)
    assert resolved == {key: x for key, x in expected.items() if x is not None}


def test_rare_classes_are_listed_from_the_smallest():
    counts = {"cargo": 30, "tug": 9, "pilot": 1, "none": 0, "tanker": 10}
    assert list(find_rare(counts).items()) == [("pilot", 1), ("tug", 9)]
