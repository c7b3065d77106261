import cv2
import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from rsft.backbones import load_backbone
from rsft.metrics.sets import coverage_by_group
from rsft.models.classifier import extract_features
from rsft.models.uncertainty.calibrator import Calibrator

KNOWN, FITTED, NEW = 8, 19, 25  # chips a class: of the class means, of the fit, of the test
CLASSES = 10


@pytest.fixture(scope="module")
def features(shared):
    """Frozen features (class, chip, D) of MSTAR vehicles, in an order drawn at random."""
    rng = np.random.default_rng(0)
    paths = [sorted(folder.iterdir()) for folder in sorted((shared("mstar_soc10") / "val").iterdir())]
    chosen = [own[index] for own in paths for index in rng.permutation(len(own))[: KNOWN + FITTED + NEW]]
    images = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[32:96, 32:96] for path in chosen])
    inputs = torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1) / 255 - 0.5
    vit = load_backbone("vit_tiny_patch8_64.simship", 64, None).vit
    with torch.inference_mode():
        found = torch.cat([extract_features(vit, part, "token") for part in inputs.split(65)])
    return found.reshape(CLASSES, -1, found.shape[1]).numpy()


@pytest.mark.realdata
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_of_a_real_classifier_cover_what_was_asked(features, coverage):
    known, fitted, new = np.split(features, [KNOWN, KNOWN + FITTED], axis=1)
    means = known.mean(axis=1)
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)

    def outputs(part):
        rows = part.reshape(-1, part.shape[2])
        return 25 * rows @ directions.T / np.linalg.norm(rows, axis=1, keepdims=True), rows

    logits, rows = outputs(fitted)
    own, labels, asked = (np.repeat(np.arange(CLASSES), count) for count in (KNOWN, FITTED, NEW))
    train_features = known.reshape(-1, known.shape[2])
    confidence = Calibrator.fit(logits, labels, rows, train_features=train_features, train_labels=own)
    logits, rows = outputs(new)
    assert 0.2 < (logits.argmax(1) == asked).mean() < 0.8  # hard enough for the sets to matter
    sets = confidence.apply(logits, rows, coverage=coverage).sets
    rank = int(np.ceil(np.round((FITTED + 1) * coverage, 9)))
    for index in range(CLASSES):
        low, high = betabinom(NEW, rank, FITTED + 1 - rank).interval(0.9999)
        assert low <= sets[asked == index, index].sum() <= high
    found = coverage_by_group(sets, asked, {"head": range(5), "tail": range(5, 10)})
    spread = betabinom(NEW, rank, FITTED + 1 - rank).std() / NEW / np.sqrt(CLASSES)
    assert found["all"].value == pytest.approx(rank / (FITTED + 1), abs=3 * spread)
    assert found["all"].size < 9
