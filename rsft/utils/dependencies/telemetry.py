"""Switch off the telemetry of other packages before they are imported. docs/security.md lists them."""

from __future__ import annotations

import os
import sys

_VARIABLES = {
    "albumentations": ("NO_ALBUMENTATIONS_UPDATE", "1"),  # its import asks PyPI for the newest version
    "huggingface_hub": ("HF_HUB_DISABLE_TELEMETRY", "1"),
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),  # its first session sends events to Microsoft
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
    "wandb": ("WANDB_ERROR_REPORTING", "false"),
}
_OPENVINO_PACKAGES = {"nncf", "openvino"}
_OPENVINO_TELEMETRY = "openvino_telemetry"  # sends events of OpenVINO and NNCF to Google Analytics

PACKAGES = frozenset({*_VARIABLES, *_OPENVINO_PACKAGES})
"""Packages with telemetry."""


def disable_telemetry(*packages: str) -> None:
    """Switch off the telemetry of packages in this process and in processes that it starts later.

    The command line calls this for all packages. Other code calls it for a package that it is about to import, so that
    a program that uses rsft keeps its environment otherwise.

    Args:
        packages: names of packages; others than `PACKAGES` are ignored (default: all of `PACKAGES`).
    """
    for package in packages or PACKAGES:
        if package in _VARIABLES:
            name, value = _VARIABLES[package]
            os.environ[name] = value
        if package == "onnxruntime" and package in sys.modules:  # the program imported it before rsft
            sys.modules[package].disable_telemetry_events()
        if package == "huggingface_hub" and (constants := sys.modules.get("huggingface_hub.constants")):
            vars(constants).update(HF_HUB_DISABLE_TELEMETRY=True)
        if package in _OPENVINO_PACKAGES:
            _disable_openvino_telemetry()


def _disable_openvino_telemetry() -> None:
    """Make OpenVINO and NNCF use their stubs for a missing telemetry package: no variable switches it off."""
    if sys.modules.get(_OPENVINO_TELEMETRY) is None:
        sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # its import raises ImportError
        return
    from openvino_telemetry.utils.sender import TelemetrySender

    TelemetrySender.send = lambda *_: None
