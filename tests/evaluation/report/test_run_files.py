"""The files of a run, as a report reads them."""

import json

import pandas as pd
import pytest

from rsft.errors import DataError, RequestError
from rsft.evaluation.report.dataset import make_gallery
from rsft.evaluation.report.run_files import RunMetadata, read_json, read_run_files
from tests.helpers.fake_run import SHIPS, write_fake_run
from tests.helpers.messages import mentions


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path, SHIPS)


def test_names_come_from_the_evaluation_and_then_from_the_recipe(run):
    files = read_run_files(run)
    assert files.name == "fusrs_lt_metalora/001"
    assert files.method == files.evaluation.method == "MetaLoRA"
    assert len(files.epochs) == 12 and len(files.predictions) == 1200
    (run / "evaluation/metrics.json").unlink()
    files = read_run_files(run)
    assert files.evaluation is None
    assert (files.method, files.data) == ("LoRA", "data/fusrs_lt")


def test_missing_and_empty_tables_are_none(run):
    (run / "modulator.csv").unlink()
    table = pd.read_csv(run / "metrics.csv")
    table[:0].to_csv(run / "metrics.csv", index=False)
    files = read_run_files(run)
    assert files.scales is None and files.epochs is None and files.replay is None


def test_empty_numbers_are_nan(run):
    table = pd.read_csv(run / "metrics.csv").astype(object)
    table.loc[0, "val_loss"] = ""
    table.to_csv(run / "metrics.csv", index=False)
    losses = read_run_files(run).epochs["val_loss"]
    assert losses.isna().tolist() == [True, *[False] * 11] and losses.dtype == float


def test_the_table_of_many_classes_is_not_fragmented(tmp_path, recwarn):
    names = [f"type {number}" for number in range(150)]
    files = read_run_files(write_fake_run(tmp_path, names))
    recwarn.clear()
    assert make_gallery(files.predictions, names, None)["chips"]
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["recipe.yaml", "run.json"])
def test_a_folder_without_recipe_or_metadata_is_no_run(run, name):
    (run / name).unlink()
    with pytest.raises(RequestError, match=mentions("not a run folder", name)):
        read_run_files(run)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.csv", "epoch\nx\n"),
        ("modulator.csv", "epoch,block\n0,1\n"),
        ("run.json", "{"),
        ("run.json", '{"status": "done"}'),
        ("evaluation/metrics.json", "[]"),
        ("evaluation/embedding.parquet", "PAR1"),
    ],
)
def test_damaged_files_are_named(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(DataError, match=mentions("damaged", name.rpartition("/")[2])):
        read_run_files(run)


def test_metadata_of_a_run_that_has_only_begun(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"status": "running", "started": "2026-12-01T10:00"}))
    metadata = read_json(path, RunMetadata)
    assert metadata.seconds is None
    path.write_text(
        json.dumps({"status": "x", "started": "2026", "trained_parameters": -1})
    )
    with pytest.raises(DataError, match="trained_parameters"):
        read_json(path, RunMetadata)
