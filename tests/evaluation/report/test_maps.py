"""The tables behind the maps of a report."""

import numpy as np
import pandas as pd
import pytest

from rsft.evaluation.report.maps import (
    MAX_MARKED_CLASSES,
    confusion_map,
    mapped_chips,
    modulator_map,
)
from rsft.evaluation.report.run_files import read_run_files
from rsft.evaluation.schema import Evaluation
from tests.helpers.fake_run import SHIPS, read_metrics, write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


@pytest.mark.slow
def test_every_class_has_its_own_marker_up_to_a_limit(tmp_path):
    for count in (MAX_MARKED_CLASSES, MAX_MARKED_CLASSES + 1):
        run = write_fake_run(
            tmp_path / str(count), [f"class {index}" for index in range(count)]
        )
        evaluation = Evaluation.model_validate(read_metrics(run))
        embedding = pd.read_parquet(run / "evaluation/embedding.parquet")
        labels = mapped_chips(embedding, evaluation)["label"].cat.categories
        assert len(labels) == (count if count == MAX_MARKED_CLASSES else 3)


def test_every_count_of_the_confusion_matrix_is_shown(run):
    evaluation = Evaluation.model_validate(read_metrics(run))
    table = confusion_map(evaluation)
    counts = pd.DataFrame(evaluation.confusion, SHIPS, SHIPS)
    assert table.texts.replace("", "0").astype(int).equals(counts)
    shares = np.diag(table.shades)
    assert shares == pytest.approx(np.diag(counts) / counts.sum(axis=1))


def with_scales(run, rows):
    table = pd.DataFrame(rows, columns=["epoch", "block", "position", "value"])
    table.to_csv(run / "modulator.csv", index=False)
    return read_run_files(run)


def test_the_scales_are_those_of_the_last_epoch(run):
    rows = [(0, 2, "v", 1.0), (0, 5, "q", 1.0), (1, 2, "v", 1.4), (1, 5, "q", 0.8)]
    files = with_scales(run, rows)
    table = modulator_map(files)
    assert table.texts.to_dict("list") == {"q": ["", "0.80"], "v": ["1.40", ""]}
    assert table.shades[0, 1] == pytest.approx(1) and table.shades[1, 0] < 0


def test_small_changes_have_weak_colors(run):
    table = modulator_map(with_scales(run, [(0, 0, "q", 1.01)]))
    assert table.shades[0, 0] == pytest.approx(0.1)


def test_scales_that_are_not_numbers_are_not_drawn(run):
    files = with_scales(run, [(0, 0, "q", 1.01), (1, 0, "q", np.nan)])
    assert modulator_map(files) is None
