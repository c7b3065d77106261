import json
import shutil

import pytest

from tools.maintenance.kill_runs import compare_results, kill_and_compare


@pytest.mark.slow
def test_a_killed_run_ends_as_the_unbroken_one(recipe_file, tmp_path):
    recipe_file.write_text(
        recipe_file.read_text().replace("train: {", "train: {checkpoint_steps: 1, accumulate_grad_batches: 2, ")
    )
    report = kill_and_compare(recipe_file, tmp_path / "work", kills=3)
    assert report.kills >= 1 and len(report.progress) == report.kills
    assert report.passed, report.equal


@pytest.fixture
def work(run, tmp_path):
    """A folder with two equal runs."""
    for name in ("unbroken", "killed"):
        shutil.copytree(run, tmp_path / name / "bars/001")
    return tmp_path


def test_equal_runs_pass(work):
    assert set(compare_results(work).values()) == {True}


@pytest.mark.parametrize("table", ["metrics.csv", "modulator.csv"])
def test_a_different_number_is_reported(work, table):
    path = work / "killed/bars/001" / table
    lines = path.read_text().splitlines()
    lines[-1] = "9" + lines[-1]
    path.write_text("\n".join(lines))
    assert [name for name, equal in compare_results(work).items() if not equal] == [table]


def test_time_may_differ(work):
    path = work / "killed/bars/001/metrics.csv"
    head, *rows = path.read_text().splitlines()
    column = head.split(",").index("seconds")
    cells = [row.split(",") for row in rows]
    path.write_text("\n".join([head, *(",".join([*row[:column], "7", *row[column + 1 :]]) for row in cells)]))
    assert set(compare_results(work).values()) == {True}


def test_another_bundle_or_status_is_reported(work):
    path = work / "killed/bars/001/run.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"bundle_sha256": "0", "status": "failed"}))
    assert [name for name, equal in compare_results(work).items() if not equal] == ["both are done", "bundle"]
