"""An export in int8, which keeps the accuracy of every group or is not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rsft.inference.export import quantize_job
from rsft.inference.export.parity import Change

SAME = Change(0.9, 0.9, 18, 0)
LOSSY = {"overall": SAME, "tail": Change(0.9, 0.8, 6, 1)}
KEPT = {"overall": SAME, "tail": Change(0.9, 0.9, 6, 2)}


@pytest.fixture
def measured(monkeypatch):
    """Nothing is computed: tables to find, one a step; and what was left in floating point."""
    tables, tried = [], []
    monkeypatch.setattr(
        quantize_job, "_quantise", lambda *given: (given[-2] / "model.onnx").write_bytes(b"%d" % len(tried))
    )
    for name in ("trace", "open_graph"):
        monkeypatch.setattr(quantize_job, name, lambda *given: None)
    monkeypatch.setattr(quantize_job, "depth_of", lambda program: 12)
    monkeypatch.setattr(quantize_job, "spared", lambda program, first: tried.append(first))
    monkeypatch.setattr(quantize_job, "_validated", lambda *given: (None, None))
    monkeypatch.setattr(quantize_job, "changes", lambda *given: tables.pop(0))
    return tables, tried


def asked(run, tmp_path, *options):
    return ("export", run, "--format", "onnx", "--precision", "int8", "-o", tmp_path / "out", *options)


@pytest.mark.slow
def test_blocks_go_back_until_it_is_kept(rsft, run, tmp_path, measured):
    tables, tried = measured
    tables += [LOSSY, KEPT]
    code, printed = rsft(*asked(run, tmp_path))
    about = json.loads((tmp_path / "out/export.json").read_text())
    assert code == 0 and tried == [0, 2] and (tmp_path / "out/model.onnx").read_bytes() == b"2"
    assert about["float_blocks"] == {"first": 2, "of": 12, "precision": "fp32"}
    assert about["refused"] == [{"first": 0, "lost": "10.00 points tail"}]
    assert about["accuracy"]["tail"] == {"before": 0.9, "after": 0.9, "chips": 6, "differ": 2}
    assert about["calibrated"]["chips"] == 40 and "40 chips" in printed
    assert "the first 2 of 12 blocks, the embedding of patches, attention and the head in fp32" in printed
    assert "with none of the blocks in floating point 10.00 points tail was lost" in printed


@pytest.mark.slow
def test_what_loses_too_much_is_not_written(rsft, run, tmp_path, measured):
    tables, tried = measured
    tables += [LOSSY] * 4
    code, printed = rsft(*asked(run, tmp_path))
    assert code == 1 and tried == [0, 2, 4] and not list(tmp_path.iterdir())
    assert "int8 loses 10.00 points tail; 0.5 are allowed" in printed and "-10.00" in printed
    assert "the first 4 of 12 blocks" in printed
    assert rsft(*asked(run, tmp_path, "--max-loss", "10.1"))[0] == 0 and tried[3:] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_real_one(rsft, run, root, tmp_path, kind):
    code, printed = rsft(*asked(run, tmp_path, "--format", kind, "--max-loss", "100"))
    assert code == 0 and "other answer" in printed and f"40 chips of {root}" in printed
    code, printed = rsft("predict", run, root / "chips", "-o", tmp_path / "out.csv", "--engine", tmp_path / "out")
    assert code == 0 and f"{kind} int8" in printed and Path(tmp_path / "out.csv").is_file()
