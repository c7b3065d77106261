"""A dry run of the check runs every row on the CPU and writes valid figures."""

import json
from collections import Counter
from math import isfinite

import pytest
from typer.testing import CliRunner

from tests.helpers.plugins import needs_plugin
from tools.gpu_check import __main__ as program


def run(*arguments):
    app = program.typer.Typer()
    app.command()(program.main)
    return CliRunner().invoke(app, list(map(str, arguments)))


def check_row(row):
    """Raise an AssertionError if values of a row contradict each other."""
    has_value = row["value"] is not None
    assert has_value == (row["status"] == "ok"), row
    assert (row["reason"] == "") == has_value
    if has_value:
        assert isfinite(row["value"]) and row["value"] >= 0 and row["unit"]
    if row["ratio"] is not None:
        assert row["ratio"] == row["value"] / row["peer_value"] and row["peer"]
    if row["peer"] == "tolerance":
        assert row["ratio"] <= 1


@needs_plugin("demo")
@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_dry_run_measures_every_row(tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    path = tmp_path / "gpu.json"
    result = run("--dry-run", "--out", path)
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert report["schema"] == 1 and report["dry_run"] is True
    assert 0 < report["seconds"] < report["time_limit_s"] == 600
    machine = report["machine"]
    assert machine["device"] == "cpu" and machine["cores"] >= 1
    assert all(machine["versions"].values()) and machine["processor"]
    rows = report["rows"]
    for row in rows:
        check_row(row)
    unsupported = [row for row in rows if row["status"] == "not run"]
    assert {row["reason"] for row in unsupported} == {"rsft uses float16 on a GPU only"}
    counts = {"ok": len(rows) - 3, "failed": 0, "not run": 3, "left out": 0}
    assert report["counts"] == counts and result.output.endswith(f"{path}\n")
    assert Counter(row["section"] for row in rows) == {
        "equality": 24,
        "quickstart": 5,
        "operators": 24,
        "chips": 4,
        "training": 21,
        "prediction": 15,
    }
    values = {(row["name"], row["unit"]): row for row in rows}
    chips = values["normalized on the device", "bytes per chip"]
    assert chips["value"] == 32 * 32 and chips["ratio"] == pytest.approx(1 / 12)
    name = "tiny ViT, batch 4, LoRA"
    rate = values[name, "images/s"]["value"]
    assert rate * values[name, "ms per step"]["value"] == pytest.approx(4000)
    assert values[name, "images/s"]["peer"] == f"{name}, Hugging Face PEFT"
    waits = [x["value"] for x in rows if x["unit"].startswith("waits")]
    assert waits == [0] * 12


def test_an_unknown_section_and_a_failure_are_told(tmp_path, monkeypatch):
    def fail(*_):
        return {"counts": {"ok": 3, "failed": 2}}

    monkeypatch.setattr(program, "write_report", fail)
    result = run("--out", tmp_path / "gpu.json")
    assert result.exit_code == 1 and result.output.startswith("3 ok, 2 failed: ")
