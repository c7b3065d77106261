import numpy as np
import pytest

from rsft.evaluation.calibration_report import estimate_by_scene, measure_calibration
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.two_classes import fit_calibrator, outputs

GROUPS = {"head": [0], "tail": [1]}


@pytest.fixture(scope="module")
def calibrator():
    return fit_calibrator(np.random.default_rng(0), 120, 120)


def joined(*parts):
    return ClassifierOutputs(
        *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    )


def test_coverage_by_scene(calibrator):
    rng = np.random.default_rng(1)
    labels = np.array([0, 1] * 34)
    scenes = np.array(["near"] * 40 + ["far"] * 24 + ["few"] * 2 + [""] * 2)
    chips = joined(
        outputs(rng, labels[:40]),
        outputs(rng, labels[40:64], 4.0),
        outputs(rng, labels[64:]),
    )
    report = measure_calibration(calibrator, chips, labels, GROUPS, scenes)
    near, far, few = report.scenes
    assert (near.group, near.coverage.chips, near.shifted) == ("near", 40, [])
    assert (far.group, far.coverage.chips, far.ood_share) == (
        "far",
        24,
        1.0,
    ) and "distance" in far.shifted
    assert (few.group, few.coverage.chips, few.shifted) == ("few", 2, [])
    estimate = estimate_by_scene(calibrator, chips, scenes)
    covered = estimate.sets[np.arange(68), labels]
    assert (
        near.coverage.value == covered[:40].mean()
        and far.coverage.value == covered[40:64].mean()
    )
    correct = chips.logits.argmax(1) == labels
    assert (
        near.accuracy == correct[:40].mean()
        and near.confidence == estimate.probabilities[:40].max(1).mean()
    )
    level = next(level for level in report.coverage if level.target == 0.9)
    assert level.groups["all"].value == covered.mean()


def test_chips_without_groups_are_one_scene(calibrator):
    labels = np.array([0, 1] * 20)
    chips = outputs(np.random.default_rng(2), labels)
    report = measure_calibration(calibrator, chips, labels, GROUPS, np.full(40, ""))
    assert report.scenes == []
    estimate = calibrator.apply(*chips)
    widened = calibrator.widened_sets(estimate.probabilities, estimate.ood)
    assert (estimate_by_scene(calibrator, chips, np.full(40, "")).sets == widened).all()
