"""Import optional dependencies, without their telemetry.

docs/security.md lists what the telemetry of each package would send.
"""

import importlib
import os
import sys
from typing import Any

from rsft.errors import RequestError

_VARIABLES = {
    # its import asks PyPI for the newest version
    "albumentations": (
        "NO_ALBUMENTATIONS_UPDATE",
        "1",
    ),
    "huggingface_hub": ("HF_HUB_DISABLE_TELEMETRY", "1"),
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
    # its first session sends events to Microsoft
    "onnxruntime": (
        "ORT_DISABLE_TELEMETRY",
        "1",
    ),
    # plug-ins of other packages see what is validated, and take time to find
    "pydantic": ("PYDANTIC_DISABLE_PLUGINS", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
    "wandb": ("WANDB_ERROR_REPORTING", "false"),
}
_OPENVINO_PACKAGES = {"nncf", "openvino"}
_OPENVINO_TELEMETRY = (  # sends events of OpenVINO and NNCF to Google Analytics
    "openvino_telemetry"
)

PACKAGES = frozenset({*_VARIABLES, *_OPENVINO_PACKAGES})
"""Packages with telemetry."""


def disable_telemetry(*packages: str) -> None:
    """Switch off the telemetry of packages in this and in later processes.

    The command line calls this for all packages. Other code calls it for a package that
    it is about to import, so that a program that uses rsft keeps its environment
    otherwise. Packages outside of `PACKAGES` are ignored.
    """
    for package in packages or PACKAGES:
        if package in _VARIABLES:
            name, value = _VARIABLES[package]
            os.environ[name] = value
        # the program imported it before rsft
        if package == "onnxruntime" and package in sys.modules:
            sys.modules[package].disable_telemetry_events()
        if package == "huggingface_hub" and (
            constants := sys.modules.get("huggingface_hub.constants")
        ):
            vars(constants).update(HF_HUB_DISABLE_TELEMETRY=True)
        if (
            package in _OPENVINO_PACKAGES
            and sys.modules.get(_OPENVINO_TELEMETRY) is None
        ):
            # no variable switches it off: they use their stubs if its import raises
            # ImportError
            sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]
        elif package in _OPENVINO_PACKAGES:
            from openvino_telemetry.utils.sender import TelemetrySender

            TelemetrySender.send = lambda *_: None


def require(module: str, extra: str) -> Any:
    """Import a module of an optional dependency, without its telemetry.

    Raises:
        RequestError: the module cannot be imported; the hint says how to install it.
    """
    package = module.partition(".")[0]
    disable_telemetry(package)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"{package} cannot be imported: {error}", "", _install_hint(package, extra)
        ) from error


def _install_hint(package: str, extra: str) -> str:
    if extra:
        return f"pip install 'rsft[{extra}]'"
    return f"pip install {package}"
