from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom

from rsft.models.uncertainty import calibrator as module
from rsft.models.uncertainty.calibrator import MAX_CLASSES, Calibrator, ValidationChips
from rsft.models.uncertainty.class_sets import class_thresholds, min_calibration_chips


def simulated(rng, labels, n_classes=4, strength=1.5):
    """Logits whose softmax is the true posterior of classes that are
    equally likely, and features."""
    features = (
        rng.normal(size=(len(labels), n_classes)) + strength * np.eye(n_classes)[labels]
    )
    return strength * features, features


def fitted(rng, counts, **kinds):
    labels = np.repeat(np.arange(len(counts)), counts)
    logits, features = simulated(rng, labels, len(counts), **kinds)
    train = np.repeat(np.arange(len(counts)), 30)
    train_features = simulated(rng, train, len(counts), **kinds)[1]
    return Calibrator.fit(
        logits, labels, features, train_features=train_features, train_labels=train
    )


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_every_class_has_the_target_coverage(coverage):
    """Coverage on new chips is beta-binomial, given n calibration chips (Vovk 2012):
    99.9 % of it must hold ours."""
    rng = np.random.default_rng(1)
    counts = [400, 200, 60, 25]
    new = 3000
    calibrator = fitted(rng, counts)
    labels = np.repeat(np.arange(4), new)
    sets = calibrator.apply(*simulated(rng, labels), coverage=coverage).sets
    for index, count in enumerate(counts):
        covered = sets[labels == index, index].sum()
        rank = int(np.ceil(np.round((count + 1) * coverage, 9)))
        low, high = betabinom(new, rank, count + 1 - rank).interval(0.999)
        assert low <= covered <= high


def test_class_with_too_few_chips_is_in_every_set_and_named():
    rng = np.random.default_rng(3)
    calibrator = fitted(rng, [50, 50, 8, 0])
    judged = calibrator.apply(*simulated(rng, np.zeros(200, int)), coverage=0.9)
    assert judged.sets[:, 2:].all() and not judged.sets[:, 1].all()
    assert calibrator.classes_without_coverage(0.9) == [
        2,
        3,
    ] and calibrator.classes_without_coverage(0.8) == [3]
    _, note = calibrator.notes(["cargo", "fishing", "tanker", "dredger"])
    assert "tanker, dredger" in note and "90% takes 9 validation chips" in note
    (accuracy,) = fitted(rng, [50] * 4).notes(list("abcd"))
    assert "if all were a, 25% would" in accuracy


def test_predictions_that_are_no_better_than_one_class_are_named():
    """7 of 10 chips are of one class; 7 predictions are right, of both classes."""
    labels = np.array([0] * 7 + [1] * 3)
    chips = fitted(np.random.default_rng(0), [40, 20])
    poor = np.array([0] * 5 + [1] * 4 + [0])
    calibrator = replace(
        chips, labels=labels, validation=replace(chips.validation, predicted=poor)
    )
    assert calibrator.notes(["cargo", "tug"])[0] == (
        "of 10 validation chips, 70% have the right class; if all were cargo, 70% would"
    )
    assert calibrator.warnings(["cargo", "tug"]) == [
        "nothing shows that the classes are better than cargo for every chip: of 10"
        " validation chips, 70% have the right class, and 70% are cargo"
    ]
    assert chips.warnings(["cargo", "tug"]) == []


@pytest.mark.parametrize(
    ("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_number_of_chips_for_a_coverage(coverage, needed):
    assert min_calibration_chips(coverage) == needed
    scores = np.arange(float(needed))
    assert class_thresholds(scores, np.zeros(needed, int), 1, coverage) == [needed - 1]
    assert class_thresholds(scores[1:], np.zeros(needed - 1, int), 1, coverage) == [
        np.inf
    ]


def test_no_set_is_empty_and_probabilities_keep_the_predicted_class():
    rng = np.random.default_rng(4)
    calibrator = fitted(rng, [50] * 4, strength=6)
    # less certain than anything seen before
    logits, features = simulated(rng, rng.integers(0, 4, 500))
    judged = calibrator.apply(logits, features, coverage=0.5)
    assert judged.sets.any(axis=1).all()
    assert (judged.probabilities.argmax(1) == logits.argmax(1)).all()
    assert judged.probabilities.sum(1) == pytest.approx(1)


def test_distant_features_are_out_of_distribution():
    rng = np.random.default_rng(5)
    calibrator = fitted(rng, [200] * 4)
    labels = rng.integers(0, 4, 2000)
    logits, features = simulated(rng, labels)
    assert (calibrator.apply(logits, features).ood > 1).mean() == pytest.approx(
        0.05, abs=0.03
    )
    assert (calibrator.apply(logits, features + 20).ood > 3).all()


def test_a_chip_between_two_groups_of_a_class_is_unlike_both():
    """The class mean lies between the groups, where no training chip is."""
    rng = np.random.default_rng(8)
    sides = np.tile([-6.0, 6.0], 50)[:, None]
    train, new = (sides + rng.normal(size=(100, 2)) for _ in range(2))
    labels = np.zeros(100, int)
    calibrator = Calibrator.fit(
        np.zeros((100, 1)), labels, new, train_features=train, train_labels=labels
    )
    between = calibrator.apply(np.zeros((1, 1)), train.mean(axis=0)[None])
    assert between.ood > 2
    old = replace(calibrator, chips=calibrator.chips[:0])
    assert old.apply(np.zeros((1, 1)), train.mean(axis=0)[None]).ood < 0.5


def test_bundles_of_0_2_and_of_many_chips_measure_to_class_means(monkeypatch):
    rng = np.random.default_rng(9)
    calibrator = fitted(rng, [20, 20])
    assert calibrator.references().shape == (60, 2)
    arrays = calibrator.tensors()
    del arrays["chips"]
    old = Calibrator.from_tensors(arrays)
    assert old.references().shape == (2, 2)
    for largest, references in ((60, 60), (59, 2)):
        monkeypatch.setattr(module, "MAX_REFERENCES", largest)
        assert fitted(rng, [20, 20]).references().shape == (references, 2)


def test_fewer_chips_than_features_and_a_class_without_training_chips():
    rng = np.random.default_rng(6)
    features = rng.normal(size=(20, 64))
    labels = np.repeat([0, 2], 10)
    logits = rng.normal(size=(20, 3))
    calibrator = Calibrator.fit(
        logits, labels, features, train_features=features, train_labels=labels
    )
    assert np.isnan(calibrator.means[1]).all()
    assert np.isfinite(calibrator.apply(logits, features).ood).all()


def test_round_trip_through_a_file(tmp_path):
    from safetensors.numpy import load_file, save_file

    rng = np.random.default_rng(7)
    calibrator = fitted(rng, [20, 20])
    save_file(calibrator.tensors(), tmp_path / "c.safetensors")
    again = Calibrator.from_tensors(load_file(tmp_path / "c.safetensors"))
    new = simulated(rng, np.array([0, 1, 1]), 2)
    for one, other in zip(calibrator.apply(*new), again.apply(*new), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, array in vars(calibrator.validation).items():
        np.testing.assert_array_equal(getattr(again.validation, name), array)
    narrow = calibrator.tensors() | {"chips": calibrator.chips[:, :1]}
    with pytest.raises(ValueError, match="of different features"):
        Calibrator.from_tensors(narrow)
    with pytest.raises(KeyError, match=r"validation\.positions"):
        Calibrator.from_tensors(
            {
                k: v
                for k, v in calibrator.tensors().items()
                if k != "validation.positions"
            }
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": np.array([], int)}, "at least one validation chip"),
        ({"logits": np.full((4, 2), np.nan)}, "finite"),
    ],
)
def test_invalid_input_raises(change, reason):
    good = {
        "logits": np.zeros((4, 2)),
        "labels": np.array([0, 0, 1, 1]),
        "features": np.zeros((4, 2)),
    }
    with pytest.raises(ValueError, match=reason):
        Calibrator.fit(
            **(good | change),
            train_features=np.zeros((2, 2)),
            train_labels=np.array([0, 1]),
        )


def outputs_of(calibrator, logits, features):
    estimate = calibrator.apply(logits, features)
    return estimate.probabilities, estimate.ood


def test_widened_sets_contain_the_plain_ones_and_are_hardly_larger_for_similar_chips():
    rng = np.random.default_rng(8)
    plain_size = 0
    widened_size = 0
    for _ in range(20):
        calibrator = fitted(rng, [120, 60, 40])
        new = calibrator.apply(*simulated(rng, rng.integers(0, 3, 90), 3))
        widened = calibrator.widened_sets(new.probabilities, new.ood)
        assert (widened | ~new.sets).all()
        plain_size = plain_size + new.sets.sum()
        widened_size = widened_size + widened.sum()
    assert plain_size < widened_size < 1.15 * plain_size


@pytest.mark.parametrize("label", [0, 1, 2])
def test_widened_sets_of_a_single_class_keep_the_coverage(label):
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(30):
        calibrator = fitted(rng, [60, 30, 20])
        new = calibrator.apply(*simulated(rng, np.full(40, label), 3))
        covered.append(
            calibrator.widened_sets(new.probabilities, new.ood)[:, label].mean()
        )
    assert np.mean(covered) > 0.89


def test_widened_sets_of_shifted_chips_keep_more_of_their_coverage():
    """Chips of all classes are less typical than those of the validation, which are as
    uncertain at that distance."""
    rng = np.random.default_rng(10)
    plain = []
    widened = []
    for _ in range(20):
        calibrator = fitted(rng, [150, 150, 150])
        labels = np.repeat(np.arange(3), 400)
        logits, features = simulated(rng, labels, 3)
        is_difficult = np.argsort(logits[np.arange(1200), labels] - logits.max(axis=1))[
            :300
        ]
        new = calibrator.apply(logits[is_difficult], features[is_difficult])
        labels = labels[is_difficult]
        plain.append(new.sets[np.arange(300), labels].mean())
        widened.append(
            calibrator.widened_sets(new.probabilities, new.ood)[
                np.arange(300), labels
            ].mean()
        )
    assert np.mean(widened) > np.mean(plain) + 0.03


def test_few_chips_have_no_widened_sets():
    rng = np.random.default_rng(10)
    calibrator = fitted(rng, [30, 30])
    probabilities, ood = outputs_of(
        calibrator, *simulated(rng, np.array([0, 1] * 6), 2)
    )
    assert calibrator.widened_sets(probabilities[:5], ood[:5]) is None
    assert (
        calibrator.widened_sets(
            probabilities, np.where(np.arange(12) == 3, np.nan, ood)
        )
        is None
    )
    assert fitted(rng, [4, 4]).widened_sets(probabilities, ood) is None
    assert list(calibrator.test_shift(probabilities, ood).differences) == [
        "distance",
        "probability",
        "classes",
    ]


def test_a_single_class_is_in_every_widened_set():
    rng = np.random.default_rng(11)
    calibrator = fitted(rng, [40])
    probabilities, ood = outputs_of(calibrator, *simulated(rng, np.zeros(15, int), 1))
    assert calibrator.widened_sets(probabilities, ood).all()
    assert calibrator.test_shift(probabilities, ood).shifted == ()


def test_shifted_chips_fail_the_test():
    rng = np.random.default_rng(12)
    calibrator = fitted(rng, [60, 60])
    labels = np.array([0, 1] * 20)
    logits, features = simulated(rng, labels, 2)
    assert (
        calibrator.test_shift(*outputs_of(calibrator, logits, features)).shifted == ()
    )
    assert (
        "distance"
        in calibrator.test_shift(*outputs_of(calibrator, logits, features + 3)).shifted
    )
    assert (
        calibrator.test_shift(np.zeros((0, 2)), np.zeros(0)).reason
        == "fewer than 10 chips with a distance"
    )


def test_the_promise_names_its_condition():
    calibrator = fitted(np.random.default_rng(13), [20, 20])
    assert (
        calibrator.promise()
        == "class sets contain the true class of 90% of the chips of every class, "
        "if the chips are like the 40 validation chips"
    )


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]])


def test_summary_of_probabilities():
    chips = ValidationChips.from_probabilities(PROBABILITIES)
    assert chips.predicted.tolist() == [0, 1, 0] and chips.confidence == pytest.approx(
        [0.7, 0.6, 0.5]
    )
    assert chips.probabilities == pytest.approx(
        PROBABILITIES
    ) and chips.columns.tolist() == [0, 1, 2]
    assert chips.positions.tolist() == [0, 1, 2]


def test_only_the_most_probable_classes_are_kept():
    probabilities = np.full((4, 40), 0.01)
    probabilities[:, 20:36] = 0.05
    chips = ValidationChips.from_probabilities(probabilities)
    assert chips.columns.tolist() == list(
        range(20, 36)
    ) and chips.probabilities.shape == (4, MAX_CLASSES)


def test_probabilities_are_lowered_to_the_accuracy_of_chips_that_resemble_the_new_ones():
    """Validation chips far from the training are wrong; all new chips are far."""
    rng = np.random.default_rng(0)
    distances = np.repeat([1.0, 2.0], 40)
    chips = fitted(rng, [40, 40])
    certain = np.column_stack([np.full(80, 0.9), np.full(80, 0.1)])
    calibrator = replace(
        chips,
        labels=np.repeat([0, 1], 40),
        scores=np.zeros(80),
        distances=distances,
        validation=ValidationChips.from_probabilities(certain),
    )
    far = np.full(30, 2.0 / calibrator.ood_limit())
    lowered = calibrator.lowered_probabilities(certain[:30], far)
    assert 0.5 <= lowered[:, 0].mean() < 0.6
    near = calibrator.lowered_probabilities(certain[:30], far / 2)
    assert 0.6 < near[:, 0].mean() < 0.8
    modest = np.where(certain[:30] > 0.5, 0.6, 0.4)
    assert calibrator.lowered_probabilities(modest, far / 2) is None
    assert calibrator.lowered_probabilities(certain[:9], far[:9]) is None
