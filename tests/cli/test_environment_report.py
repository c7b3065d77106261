"""`rsft doctor` on this machine, and with missing packages, disk space and memory."""

import time
from importlib import metadata

import pytest
import torch

from rsft.cli import environment_report


@pytest.mark.slow
def test_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    start = time.perf_counter()
    rows = {row.name: row for row in environment_report.environment_report()}
    assert time.perf_counter() - start < 10
    assert rows["torch"].value == metadata.version("torch")
    assert rows["threads"].value.startswith(f"{torch.get_num_threads()} on ")
    assert "train.precision=" in rows["bfloat16"].hint
    assert rows["matrix products"].value in ("torch", "onednn")
    assert rows["memory"].status in ("ok", "warn")
    assert rows["weights"].value == str(tmp_path)


def test_missing_package_and_full_disk(monkeypatch):
    def absent(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", absent)
    monkeypatch.setattr(environment_report, "MIN_FREE_BYTES", 1e30)
    rows = {row.name: row for row in environment_report.environment_report()}
    assert (rows["torch"].status, rows["torch"].hint) == ("fail", "pip install torch")
    assert "bfloat16" not in rows
    assert rows["disk, working directory"].status == "warn"


@pytest.mark.parametrize(
    ("free", "value"), [(1e9, "1.0 GB free"), (3.21e9, "3.2 GB free")]
)
def test_free_space(free, value):
    # the report takes the numbers of this machine; these are those of others
    assert environment_report._free_space("memory", free).value == value


@pytest.mark.parametrize("library", ["torch", "onednn"])
def test_the_library_of_matrix_products(library, monkeypatch):
    monkeypatch.setenv("RSFT_MATMUL", library)
    # the rows that need torch
    rows = {row.name: row for row in environment_report._processor()}
    assert rows["matrix products"].value == library
    assert "RSFT_MATMUL" in rows["matrix products"].hint


def test_too_little_space(monkeypatch):
    monkeypatch.setattr(environment_report, "MIN_FREE_BYTES", 5e9)
    little = environment_report._free_space("memory", 4.9e9)
    assert (little.status, little.hint) == ("warn", "a job may need 5 GB")
    assert environment_report._free_space("memory", 5e9).status == "ok"
