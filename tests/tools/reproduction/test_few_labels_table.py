"""The table of methods with few labels per class."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tools.reproduction import few_labels_table as tool

STORE = SimpleNamespace(
    classes=("a", "b"),
    table=pd.DataFrame(
        {"class": list("aabbabb"), "split": ["train"] * 4 + ["val"] * 3}
    ),
)
FEATURES = np.array(
    [[9.0, 0.0], [9.0, 1.0], [0.0, 9.0], [1.0, 9.0], [9.0, 2.0], [9.0, 3.0], [1.0, 9.0]]
)


def test_the_page_has_the_results():
    page = tool.PAGE.read_text("utf-8")
    assert "<!-- tables -->" in page
    assert tool.fill_page(page, tool.read_results()) == page


@pytest.mark.parametrize("method", tool.FROZEN)
def test_frozen_methods_take_the_drawn_chips(method):
    draw = tool.Draw("mstar", method, 2, 0)
    macro, _ = tool.measure_frozen(STORE, draw, FEATURES)
    assert macro == 75  # one of two chips of class b is like those of class a


def test_a_result_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(tool, "compute_features", lambda *_: FEATURES)
    draws = [tool.Draw("mstar", "discriminant", 2, seed) for seed in (1, 0, 1)]
    for draw in draws:
        tool.add_result(STORE, draw, tmp_path)
    results = tool.read_results()
    assert list(results["draw"]) == [0, 1] and set(results["macro"]) == {75}
    table = list(tool.format_tables(results))
    assert table[2] == "| discriminant |  | 75.0 ± 0.0 (2) |  |  |  |  |"
