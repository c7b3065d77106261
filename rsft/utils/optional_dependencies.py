"""Packages that rsft works without."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from rsft.errors import RequestError

EXTRAS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino", "nncf")}
"""Extra of the package -> what it installs."""

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Engine -> the package that runs it; PyTorch is always there."""


def installed(engine: str) -> bool:
    """Whether an engine can be used here."""
    return find_spec(RUNTIMES[engine]) is not None if engine in RUNTIMES else True


def need(package: str) -> Any:
    """A package of an extra, or a module of one.

    Raises:
        RequestError: it is not installed; with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        extra = next(extra for extra, packages in EXTRAS.items() if package.partition(".")[0] in packages)
        what = f"{package.partition('.')[0]} cannot be imported: {error}"
        raise RequestError(what, "", f"pip install 'rsft[{extra}]'") from error
