import numpy as np
import pytest

from rsft.models.uncertainty.calibrator import MAX_CLASSES, ValidationChips

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]])


def test_summary_of_probabilities():
    chips = ValidationChips.from_probabilities(PROBABILITIES)
    assert chips.predicted.tolist() == [0, 1, 0] and chips.confidence == pytest.approx([0.7, 0.6, 0.5])
    assert chips.probabilities == pytest.approx(PROBABILITIES) and chips.columns.tolist() == [0, 1, 2]
    assert chips.positions.tolist() == [0, 1, 2] and chips.groups.tolist() == [-1] * 3
    assert chips.describe_groups() == ""


def test_only_the_most_probable_classes_are_kept():
    probabilities = np.full((4, 40), 0.01)
    probabilities[:, 20:36] = 0.05
    chips = ValidationChips.from_probabilities(probabilities)
    assert chips.columns.tolist() == list(range(20, 36)) and chips.probabilities.shape == (4, MAX_CLASSES)


@pytest.mark.parametrize(
    ("groups", "trained", "text"),
    [
        (["a", "a", "b"], ["c"], "2 groups (such as scenes) without training chips"),
        (["a", "a", ""], ["", "c"], "1 group (such as scenes) without training chips"),
        (["a", "c", "b"], ["c", "a"], "3 groups (such as scenes), 2 of them with training chips"),
        (["", "", ""], ["c"], ""),
    ],
)
def test_groups_are_described(groups, trained, text):
    chips = ValidationChips.from_probabilities(PROBABILITIES, groups=np.array(groups), trained_groups=np.array(trained))
    assert chips.describe_groups() == text


def test_round_trip_and_files_without_an_array():
    chips = ValidationChips.from_probabilities(PROBABILITIES, groups=np.array(["a", "b", ""]))
    again = ValidationChips.from_tensors(chips.tensors())
    for name, array in vars(chips).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    with pytest.raises(KeyError, match="predicted"):
        ValidationChips.from_tensors({"validation.groups": np.zeros(3)})
