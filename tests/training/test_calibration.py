import numpy as np

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import collect_outputs
from rsft.training.calibration import sample_evenly_per_class


def test_the_bundle_is_calibrated_on_the_validation_split(run, root):
    bundle = Bundle.load(run)
    store = ChipStore.open(root)
    chips = ChipImages(root, store.split("val"), store.classes, bundle.contract)
    outputs = collect_outputs(load_classifier(bundle), chips.batches(5))
    assert outputs.logits.shape == (18, 3) and outputs.features.shape == (18, 192)
    calibrator = bundle.calibrator
    assert calibrator.was_fitted_on(outputs.logits, chips.labels)
    assert not calibrator.was_fitted_on(outputs.logits[:9], chips.labels[:9])
    assert not calibrator.was_fitted_on(outputs.logits + np.eye(3)[0], chips.labels)
    assert calibrator.temperature > 0.2  # all 18 are right, but the model is not certain
    estimates = calibrator.apply(*outputs)
    assert (estimates.ood > 1).sum() == 1  # 5 % of 18
    assert (estimates.probabilities.argmax(1) == outputs.logits.argmax(1)).all()


def test_chips_of_a_class_are_sampled_evenly():
    labels = np.array([0] * 10 + [1] * 2)
    assert sample_evenly_per_class(labels, 3).tolist() == [0, 4, 9, 10, 11]
