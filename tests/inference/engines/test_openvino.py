"""Graphs that OpenVINO would run without a check are refused before it compiles them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from rsft.inference.engines.openvino import OpenVinoEngine
from tests.helpers.messages import mentions


def write_graph(path: Path, axis: int) -> Path:
    """Write a graph that normalizes images along an axis."""
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    normalized = ops.mvn(images, np.array([3]), True, 1e-6, "inside_sqrt")
    features = ops.reduce_mean(normalized, np.array([2, 3]), False)
    openvino.save_model(openvino.Model([features, features], [images]), path, compress_to_fp16=False)
    weights = path.with_suffix(".bin")
    content = weights.read_bytes()
    assert content.startswith(np.int64(3).tobytes())
    weights.write_bytes(np.int64(axis).tobytes() + content[8:])
    return path


@pytest.mark.parametrize("axis", [-4, -1, 0, 3])
def test_axes_of_a_normalization(axis: int, tmp_path: Path) -> None:
    graph = OpenVinoEngine().open_graph(write_graph(tmp_path / "model.xml", axis), "fp32")
    assert graph.infer(np.ones((2, 3, 8, 8), np.float32)).features.shape == (2, 3)


@pytest.mark.parametrize("axis", [-5, 4, 2**31, 3 + (8 << 56)])
def test_axes_that_are_not_dimensions_are_refused(axis: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=mentions("axis", "dimension")):
        OpenVinoEngine().open_graph(write_graph(tmp_path / "model.xml", axis), "fp32")


def test_a_fixed_number_of_rows_is_refused(tmp_path: Path) -> None:
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    rows = ops.reshape(images, np.array([15_360_000, 3, -1]), True)
    features = ops.reduce_mean(rows, np.array([2]), False)
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([features, features], [images]), path, compress_to_fp16=False)
    with pytest.raises(ValueError, match=mentions("output", "[15360000,3]")):
        OpenVinoEngine().open_graph(path, "fp32")
