"""Graphs of OpenVINO: metadata, bfloat16, and files that it must not run."""

import json

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from rsft.inference.engines.base import find_format
from tests.helpers.messages import mentions
from tests.helpers.tiny_bundles import GRAPH_METADATA, IMAGES

pytestmark = pytest.mark.slow


def open_graph(name, folder, precision="fp32"):
    graph_format = find_format(name)
    return graph_format.open_graph(folder / graph_format.file_name, precision)


def test_openvino_holds_input_size_and_metadata(tiny_graph):
    model = openvino.Core().read_model(tiny_graph("openvino") / "model.xml")
    assert str(model.input("images").partial_shape) == "[?,3,16,16]" and model.output(
        "features"
    )
    assert json.loads(model.get_rt_info("rsft").astype(str)) == GRAPH_METADATA


def test_openvino_in_bf16_is_half_as_large_and_near(tiny_program, tiny_graph, tmp_path):
    program, expected = tiny_program
    find_format("openvino").write_graph(
        program, tmp_path, GRAPH_METADATA | {"precision": "bf16"}
    )
    error = (
        (open_graph("openvino", tmp_path, "bf16").predict(IMAGES).logits - expected[0])
        .abs()
        .max()
    )
    assert 0 < error < 0.1
    sizes = [
        (path / "model.bin").stat().st_size
        for path in (tmp_path, tiny_graph("openvino"))
    ]
    assert 0.4 < sizes[0] / sizes[1] < 0.7


@pytest.mark.parametrize(
    ("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16"), ("int8", "bf16")]
)
def test_the_processor_computes_in_the_precision_of_the_graph(
    tiny_graph, monkeypatch, precision, hint
):
    hints = []
    compile_model = openvino.Core.compile_model

    def compile_with(core, model, device, options):
        hints.append(options["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, options)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_with)
    open_graph("openvino", tiny_graph("openvino"), precision)
    assert hints == [hint]


def open_openvino(folder, images, features, axis=None):
    """Open a graph whose first weight, the axis of a normalization, is overwritten in
    the file."""
    path = folder / "model.xml"
    openvino.save_model(
        openvino.Model([features, features], [images]), path, compress_to_fp16=False
    )
    if axis is not None:
        content = path.with_suffix(".bin").read_bytes()
        assert content.startswith(np.int64(3).tobytes())
        path.with_suffix(".bin").write_bytes(np.int64(axis).tobytes() + content[8:])
    return open_graph("openvino", folder)


@pytest.mark.parametrize("axis", [-4, 3, -5, 4, 2**31, 3 + (8 << 56)])
def test_openvino_refuses_axes_that_are_not_dimensions(tmp_path, axis):
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    normalized = ops.mvn(images, np.array([3]), True, 1e-6, "inside_sqrt")
    features = ops.reduce_mean(normalized, np.array([2, 3]), False)
    if -4 <= axis <= 3:
        graph = open_openvino(tmp_path, images, features, axis)
        assert graph.infer(np.ones((2, 3, 8, 8), np.float32)).features.shape == (2, 3)
    else:
        with pytest.raises(ValueError, match="not a dimension"):
            open_openvino(tmp_path, images, features, axis)


def test_openvino_refuses_a_fixed_number_of_rows(tmp_path):
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    rows = ops.reshape(images, np.array([15_360_000, 3, -1]), True)
    with pytest.raises(ValueError, match=mentions("[15360000,3]")):
        open_openvino(tmp_path, images, ops.reduce_mean(rows, np.array([2]), False))
