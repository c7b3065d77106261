import pytest

from rsft.data.datasets.rare_classes import find_rare, resolve_rare

LABELS = ["Cargo"] * 30 + ["Tug"] * 9 + ["Pilot"] + ["Tanker"] * 10
NAMES = {"Cargo": "cargo", "Tug": "tug", "Pilot": "pilot", "Tanker": "tanker"}


@pytest.mark.parametrize(
    ("choice", "changed"),
    [
        (None, {}),
        ("keep", {}),
        ("merge", {"Tug": "other", "Pilot": "other"}),
        ("drop", {"Tug": None, "Pilot": None}),
    ],
)
def test_classes_of_less_than_ten_chips_are_kept_merged_or_left_out(choice, changed):
    expected = {**NAMES, **changed}
    resolved = resolve_rare(NAMES, LABELS, choice)
    assert resolved == {key: x for key, x in expected.items() if x is not None}


def test_rare_classes_are_listed_from_the_smallest():
    counts = {"cargo": 30, "tug": 9, "pilot": 1, "none": 0, "tanker": 10}
    assert list(find_rare(counts).items()) == [("pilot", 1), ("tug", 9)]
