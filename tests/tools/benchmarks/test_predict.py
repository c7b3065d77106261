"""The benchmark of `rsft predict`: one small row, the reference row, and the table."""

from __future__ import annotations

import json

import pytest

from tools.benchmarks import predict_row


@pytest.mark.slow
def test_a_row_and_its_memory(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    predict_row.make(tmp_path, "tiny", 5)
    predict_row.time_row(tmp_path, "eager", 2)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(result["bare"]) == 4 and result["difference"] < 1e-3 and result["predict"] > 0 and result["open"] > 0
    predict_row.take_memory(tmp_path, 3)
    assert json.loads(capsys.readouterr().out)["peak"] > 100
