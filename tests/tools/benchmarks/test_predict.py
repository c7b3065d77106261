"""The benchmark of `rsft predict`: one small row, the reference row, and the table."""

from __future__ import annotations

import json

import pytest
import typer

from tools.benchmarks import predict_row
from tools.benchmarks.predict import table, with_reference


@pytest.mark.slow
def test_a_row_and_its_memory(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    predict_row.make(tmp_path, "tiny", 5)
    predict_row.time_row(tmp_path, "eager", 2)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(result["bare"]) == 4 and result["difference"] < 1e-3 and result["predict"] > 0 and result["open"] > 0
    predict_row.take_memory(tmp_path, 3)
    assert json.loads(capsys.readouterr().out)["peak"] > 100


def test_rows_include_the_one_they_are_compared_with() -> None:
    assert with_reference(["openvino-int8", "onnx"]) == ["eager", "onnx", "openvino-int8"]
    with pytest.raises(typer.BadParameter, match="no row hours"):
        with_reference(["hours"])


def test_the_table_has_medians_and_ratios() -> None:
    measured = {
        "eager": {"bare": [4, 5, 9], "predict": [5], "open": [1], "difference": [0]},
        "torch-bf16": {"bare": [12], "predict": [11.4], "open": [30], "difference": [0.004]},
    }
    assert table(measured).splitlines()[2:] == [
        "| eager | 5.0 | 1.00 | 5.0 | 1.00 (target: 0.95) | 1.0 | 0 |",
        "| torch-bf16 | 12.0 | 2.40 (target: 2.3) | 11.4 | 0.95 (target: 0.95) | 30.0 | 0.004 |",
    ]
