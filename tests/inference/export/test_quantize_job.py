"""An int8 export keeps the accuracy of every group, or is not written."""

import json
from pathlib import Path

import pytest

from rsft.inference.engines.onnx import OnnxEngine
from rsft.inference.export import export
from rsft.inference.export.export import AccuracyChange
from tests.helpers.plugins import OPENVINO

SAME = AccuracyChange(0.9, 0.9, 18, 0)
LOSSY = {"overall": SAME, "tail": AccuracyChange(0.9, 0.8, 6, 1)}
UNCHANGED = {"overall": SAME, "tail": AccuracyChange(0.9, 0.9, 6, 2)}


@pytest.fixture
def measured(monkeypatch):
    """Replace the computation: accuracy tables to return, one per step, and the numbers
    of float blocks tried."""
    tables = []
    tried = []

    def write_quantized(self, program, folder, *_):
        (folder / "model.onnx").write_bytes(b"%d" % len(tried))

    monkeypatch.setattr(OnnxEngine, "quantize", write_quantized)
    monkeypatch.setattr(OnnxEngine, "open_graph", lambda self, path, precision: None)
    monkeypatch.setattr(export.traceable, "trace_network", lambda *_: None)
    # an accuracy that falls in one group, which no small network has
    monkeypatch.setattr(export, "_nodes", lambda program: [11])
    monkeypatch.setattr(export, "_block_of", lambda node: node)
    monkeypatch.setattr(
        export, "float_nodes", lambda program, first: tried.append(first)
    )
    # its losses are those of the test
    monkeypatch.setattr(export, "_validate", lambda *_: (None, None))
    monkeypatch.setattr(export, "accuracy_changes", lambda *_: tables.pop(0))
    return tables, tried


def arguments(run, tmp_path, *options):
    return (
        "export",
        run,
        "--format",
        "onnx",
        "--precision",
        "int8",
        "-o",
        tmp_path / "out",
        *options,
    )


@pytest.mark.slow
def test_blocks_return_to_float_until_accuracy_is_kept(rsft, run, tmp_path, measured):
    tables, tried = measured
    tables += [LOSSY, UNCHANGED]
    code, printed = rsft(*arguments(run, tmp_path))
    metadata = json.loads((tmp_path / "out/export.json").read_text())
    assert (
        code == 0
        and tried == [0, 2]
        and (tmp_path / "out/model.onnx").read_bytes() == b"2"
    )
    assert metadata["float_blocks"] == {"count": 2, "depth": 12, "precision": "fp32"}
    assert metadata["accuracy"]["tail"] == {
        "before": 0.9,
        "after": 0.9,
        "chips": 6,
        "differ": 2,
    }
    assert metadata["calibration"]["chips"] == 40 and "40 chips" in printed
    assert (
        "the first 2 of 12 blocks, the patch embedding, attention and the head in fp32"
        in printed
    )


@pytest.mark.slow
def test_an_export_that_loses_too_much_is_not_written(rsft, run, tmp_path, measured):
    tables, tried = measured
    tables += [LOSSY] * 4
    code, printed = rsft(*arguments(run, tmp_path))
    assert code == 1 and tried == [0, 2, 4] and not list(tmp_path.iterdir())
    assert "int8 loses 10.00 points tail; 0.5 are allowed" in printed
    assert "the first 4 of 12 blocks" in printed
    assert rsft(*arguments(run, tmp_path, "--max-loss", "10.1"))[0] == 0 and tried[
        3:
    ] == [0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["onnx", OPENVINO])
def test_a_real_export(rsft, run, root, tmp_path, name):
    code, printed = rsft(
        *arguments(run, tmp_path, "--format", name, "--max-loss", "100")
    )
    assert code == 0 and "changed" in printed and f"40 chips of {root}" in printed
    code, printed = rsft(
        "predict",
        run,
        root / "chips",
        "-o",
        tmp_path / "out.csv",
        "--engine",
        tmp_path / "out",
    )
    assert (
        code == 0 and f"{name} int8" in printed and Path(tmp_path / "out.csv").is_file()
    )
