import numpy as np
import pytest
import torch

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.evaluation.evaluate import evaluate
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.devices import copy_to_device
from rsft.models.loading import load_classifier
from rsft.recipe.load import load_recipe
from rsft.training.calibration import sample_evenly_per_class, select_calibration_chips
from rsft.training.finetune import finetune


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
    # all 18 are right, but the model is not certain
    assert calibrator.temperature > 0.2
    estimates = calibrator.apply(*outputs)
    # the limit is the largest of 18 distances: 5 % of 19 is less than one
    assert (estimates.ood > 1 + 1e-5).sum() == 0
    assert (estimates.probabilities.argmax(1) == outputs.logits.argmax(1)).all()


@pytest.mark.slow
def test_the_calibration_is_fitted_on_the_averaged_views(recipe_file, root, tmp_path):
    overrides = [
        "meta=null",
        "train.epochs=1",
        "train.ensemble_size=2",
        "data.augment=sar",
        "evaluate.tta=turns",
    ]
    bundle = Bundle.load(
        finetune(load_recipe(recipe_file, overrides), tmp_path / "runs").folder
    )
    store = ChipStore.open(root)
    chips = ChipImages(root, store.split("val"), store.classes, bundle.contract)
    images = torch.cat([copy_to_device(x, "cpu") for x, _ in chips.batches(18)])
    model = load_classifier(bundle)
    with torch.inference_mode():
        views = [
            y.rot90(turns, (2, 3))
            for y in (images, images.flip(3))
            for turns in range(4)
        ]
        by_hand = (
            torch.stack([model(view).softmax(1) for view in views])
            .mean(0)
            .log()
            .numpy()
        )
    assert bundle.calibrator.was_fitted_on(by_hand, chips.labels)
    with torch.inference_mode():
        assert not bundle.calibrator.was_fitted_on(model(images).numpy(), chips.labels)
    evaluation = evaluate(
        tmp_path / "runs/bars/001", root, tmp_path / "out", split="val", baselines=False
    )
    assert evaluation.confidence.fitted_on_these_chips
    assert [note for note in evaluation.notes if "turns" in note] == [
        "probabilities are means over test-time views (turns), as in rsft predict"
    ]


def test_chips_of_a_class_are_sampled_evenly():
    labels = np.array([0] * 10 + [1] * 2)
    assert sample_evenly_per_class(labels, 3).tolist() == [0, 4, 9, 10, 11]


def test_chips_of_scenes_without_training_chips_are_selected():
    labels = np.repeat([0, 1], 20)
    groups = np.array(["old", "new"] * 20)
    assert select_calibration_chips(
        labels, groups, np.array(["old", "other"])
    ).tolist() == list(range(1, 40, 2))
    assert select_calibration_chips(
        labels, groups, np.array(["other"])
    ).tolist() == list(range(40))
    without_groups = np.full(40, "")
    assert select_calibration_chips(
        labels, without_groups, without_groups
    ).tolist() == list(range(40))


def test_all_chips_are_selected_if_a_class_would_have_too_few():
    labels = np.repeat([0, 1], 12)
    groups = np.array(["new"] * 20 + ["old"] * 4)  # 8 chips of class 1 are new
    assert select_calibration_chips(labels, groups, np.array(["old"])).tolist() == list(
        range(24)
    )
    assert select_calibration_chips(
        labels[:16], groups[:16], np.array(["new"])
    ).tolist() == list(range(16))
