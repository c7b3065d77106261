import shutil

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import normalize

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.evaluation.evaluate import evaluate
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.plugins.sweeps.paper.distances import class_distances, class_mean_distances


def test_cosine_distance_of_right_angles_opposites_and_lengths():
    features = np.array([[5.0, 0.0], [0.1, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    distances = class_mean_distances(features, np.array([0, 0, 1, 2]), 4)
    assert distances[:3] == pytest.approx([1.5, 1.0, 1.5])
    assert np.isnan(distances[3])


def test_single_class_has_no_distance():
    distances = class_mean_distances(np.ones((3, 2)), np.zeros(3, int), 2)
    assert np.isnan(distances).all()


@pytest.mark.slow
def test_distances_of_a_run_are_computed_once(run, root, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    evaluate(folder / "bundle", root, folder / "evaluation", baselines=False)
    bundle = Bundle.load(folder)
    chips = ChipImages(
        root, ChipStore.open(root).split("val"), bundle.classes, bundle.contract
    )
    features = collect_outputs(load_classifier(bundle), chips.batches(32)).features
    directions = [
        normalize(features[chips.labels == label]).mean(0, keepdims=True)
        for label in range(3)
    ]
    cosines = cosine_distances(np.concatenate(directions)).sum(1) / 2
    distances = class_distances(folder)
    assert distances["medium"] is None
    assert distances["tail"] == pytest.approx(cosines[1:].mean(), abs=1e-6)
    (folder / "distances.json").write_text('{"head": 0.5}')
    assert class_distances(folder) == {"head": 0.5}  # read from the file
