"""The linked maps of features."""

import numpy as np
import pandas as pd
import pytest

from rsft.evaluation.report.maps import (
    MAX_MARKED_CLASSES,
    SIDE,
    STAGES,
    ChipMap,
    linked_maps_data,
)
from rsft.evaluation.schema import Evaluation
from tests.helpers.fake_run import SHIPS, read_metrics, write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


def predictions(run):
    return pd.read_parquet(run / "evaluation/predictions.parquet")


def test_the_map_has_every_chip_and_marks_mistakes(run):
    embedding = pd.read_parquet(run / "evaluation/embedding.parquet")
    evaluation = Evaluation.model_validate(read_metrics(run))
    chip_map = ChipMap(embedding, evaluation, predictions(run))
    data = linked_maps_data([(chip_map, stage) for stage in STAGES])
    truth = predictions(run).set_index("path").loc[embedding["path"]]
    points, labels, predicted = zip(*data["chips"], strict=True)
    assert [SHIPS[label] for label in labels] == truth["class"].tolist()
    assert [[SHIPS[index] for index in indices] for indices in predicted] == [
        [name] for name in truth["predicted"]
    ]
    assert (
        np.array(points).shape == (len(truth), 4)
        and np.min(points) >= 0
        and np.max(points) <= SIDE
    )
    groups = chip_map.chip_groups("adapted")
    wrong = sum(len(points) for _, style, _, points in groups if style == "wrong")
    assert wrong == (truth["class"] != truth["predicted"]).sum()


@pytest.mark.slow
def test_every_class_has_its_own_marker_up_to_a_limit(tmp_path):
    for count in (MAX_MARKED_CLASSES, MAX_MARKED_CLASSES + 1):
        run = write_fake_run(
            tmp_path / str(count), [f"class {index}" for index in range(count)]
        )
        evaluation = Evaluation.model_validate(read_metrics(run))
        chip_map = ChipMap(
            pd.read_parquet(run / "evaluation/embedding.parquet"), evaluation, None
        )
        markers = {chip_map.marker(index) for index in range(count)}
        assert (
            len(markers)
            == len(chip_map.legend())
            == (count if count == MAX_MARKED_CLASSES else 3)
        )
