import cv2
import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from rsft.backbones import load_backbone
from rsft.metrics.sets import coverage_by_group
from rsft.models.classifier import extract_features
from rsft.models.uncertainty.calibrator import Calibrator

N_TRAIN, N_VALIDATION, N_NEW = 8, 19, 25  # chips a class: of the class means, of the fit, of the test
CLASSES = 10


@pytest.fixture(scope="module")
def features(shared):
    """Frozen features (class, chip, D) of MSTAR vehicles, in an order drawn at random."""
    rng = np.random.default_rng(0)
    paths = [sorted(folder.iterdir()) for folder in sorted((shared("mstar_soc10") / "val").iterdir())]
    chosen = [
        class_paths[index]
        for class_paths in paths
        for index in rng.permutation(len(class_paths))[: N_TRAIN + N_VALIDATION + N_NEW]
    ]
    images = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[32:96, 32:96] for path in chosen])
    inputs = torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1) / 255 - 0.5
    vit = load_backbone("vit_tiny_patch8_64.simship", 64, None).vit
    with torch.inference_mode():
        features = torch.cat([extract_features(vit, part, "token") for part in inputs.split(65)])
    return features.reshape(CLASSES, -1, features.shape[1]).numpy()


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_of_a_real_classifier_have_the_target_coverage(features, coverage):
    train, validation, new = np.split(features, [N_TRAIN, N_TRAIN + N_VALIDATION], axis=1)
    means = train.mean(axis=1)
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)

    def outputs(part):
        rows = part.reshape(-1, part.shape[2])
        return 25 * rows @ directions.T / np.linalg.norm(rows, axis=1, keepdims=True), rows

    logits, rows = outputs(validation)
    train_labels, labels, new_labels = (
        np.repeat(np.arange(CLASSES), count) for count in (N_TRAIN, N_VALIDATION, N_NEW)
    )
    train_features = train.reshape(-1, train.shape[2])
    confidence = Calibrator.fit(logits, labels, rows, train_features=train_features, train_labels=train_labels)
    logits, rows = outputs(new)
    assert 0.2 < (logits.argmax(1) == new_labels).mean() < 0.8  # hard enough for the sets to matter
    sets = confidence.apply(logits, rows, coverage=coverage).sets
    rank = int(np.ceil(np.round((N_VALIDATION + 1) * coverage, 9)))
    for index in range(CLASSES):
        low, high = betabinom(N_NEW, rank, N_VALIDATION + 1 - rank).interval(0.9999)
        assert low <= sets[new_labels == index, index].sum() <= high
    coverage = coverage_by_group(sets, new_labels, {"head": range(5), "tail": range(5, 10)})
    spread = betabinom(N_NEW, rank, N_VALIDATION + 1 - rank).std() / N_NEW / np.sqrt(CLASSES)
    assert coverage["all"].value == pytest.approx(rank / (N_VALIDATION + 1), abs=3 * spread)
    assert coverage["all"].size < 9
