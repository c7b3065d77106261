"""Static quantisation by the runtimes' own libraries, calibrated on chips."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.export.extras import need
from rsft.export.graphs import describe_onnx, quietly, save_openvino
from rsft.export.network import IMAGES

CALIBRATION = 256
"""Chips that ranges are taken from; means and extremes of activations hardly move with more."""

_PASS = 8


def quantise_onnx(path: Path, chips: NDArray[np.float32], about: dict[str, Any]) -> None:
    """Replace a float32 ONNX file by one with int8 matrix products (QDQ, a scale for every row of a weight).

    Args:
        chips: (N, P, S, S), normalised.
    """
    quantization = need("onnxruntime.quantization")
    shapes = need("onnxruntime.quantization.shape_inference")

    ready = path.with_name("ready.onnx")
    with quietly():
        shapes.quant_pre_process(path, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            path,
            _Reader(chips),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    ready.unlink()
    describe_onnx(path, about)


def quantise_openvino(model: Any, path: Path, chips: NDArray[np.float32], about: dict[str, Any]) -> None:
    """Write a model of OpenVINO in int8 as NNCF does it for transformers, with smoothed activations.

    Args:
        chips: (N, P, S, S), normalised.
    """
    nncf = need("nncf")
    nncf.set_log_level(logging.ERROR)
    with quietly():
        small = nncf.quantize(
            model,
            nncf.Dataset([chip[None] for chip in chips]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(chips),
        )
    save_openvino(small, path, about)


class _Reader:
    """Chips as ONNX Runtime asks for them: its CalibrationDataReader is whatever has `get_next`."""

    def __init__(self, chips: NDArray[np.float32]) -> None:
        self.parts = _parts(chips)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next pass; None after the last."""
        part = next(self.parts, None)
        return None if part is None else {IMAGES: part}


def _parts(chips: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (chips[start : start + _PASS] for start in range(0, len(chips), _PASS))
