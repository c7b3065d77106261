"""Telemetry of other packages is off, whether they are imported before or after rsft
asks for it."""

import importlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rsft.errors import RequestError
from rsft.utils import dependencies
from rsft.utils.dependencies import (
    PACKAGES,
    disable_telemetry,
    require,
)

VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYDANTIC_DISABLE_PLUGINS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
}
SECURITY = Path(__file__).parents[2] / "docs/security.md"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Restore environment and modules after each test; start without the variables."""
    monkeypatch.setattr(
        os, "environ", {k: v for k, v in os.environ.items() if k not in VARIABLES}
    )
    for name in (
        "openvino_telemetry",
        "openvino_telemetry.utils",
        "openvino_telemetry.utils.sender",
        "onnxruntime",
    ):
        monkeypatch.setitem(sys.modules, name, sys)  # so that it is restored afterwards
        del sys.modules[name]


def test_all_packages():
    disable_telemetry()
    assert VARIABLES.items() <= os.environ.items()
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")


def test_one_package_leaves_the_others_alone():
    disable_telemetry("onnxruntime")
    assert VARIABLES.items() & os.environ.items() == {("ORT_DISABLE_TELEMETRY", "1")}
    assert "openvino_telemetry" not in sys.modules
    disable_telemetry("json")
    assert VARIABLES.items() & os.environ.items() == {("ORT_DISABLE_TELEMETRY", "1")}


def test_a_value_that_allows_telemetry_is_replaced():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "1"
    disable_telemetry("ray")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_onnxruntime_that_was_imported_earlier():
    calls = []
    sys.modules["onnxruntime"] = SimpleNamespace(
        disable_telemetry_events=lambda: calls.append(1)
    )
    disable_telemetry("onnxruntime")
    assert calls == [1]


def test_huggingface_hub_that_was_imported_earlier(monkeypatch):
    constants = SimpleNamespace(HF_HUB_DISABLE_TELEMETRY=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    disable_telemetry("huggingface_hub")
    assert constants.HF_HUB_DISABLE_TELEMETRY


@pytest.mark.parametrize("package", ["nncf", "openvino"])
def test_openvino_telemetry_that_was_imported_earlier(package):
    class TelemetrySender:
        def send(self, backend, message):
            raise AssertionError("an event was sent")

    sender = ModuleType("openvino_telemetry.utils.sender")
    sender.TelemetrySender = TelemetrySender
    for name in ("openvino_telemetry", "openvino_telemetry.utils"):
        sys.modules[name] = ModuleType(name)
    sys.modules[sender.__name__] = sender
    disable_telemetry(package)
    TelemetrySender().send("backend", "message")


def test_optional_packages_are_imported_without_telemetry(monkeypatch):
    seen = []
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda name: seen.append((name, os.environ["ORT_DISABLE_TELEMETRY"])),
    )
    require("onnxruntime.quantization", "onnx")
    assert seen == [("onnxruntime.quantization", "1")]


@pytest.mark.slow
def test_nncf_and_openvino_use_their_stubs():
    if find_spec("nncf") is None:
        pytest.skip("NNCF is not installed")
    code = """
import sys
from rsft.utils.dependencies import require
require("nncf", ""), require("openvino", "")
from nncf.telemetry import telemetry
from openvino.tools.ovc.convert_impl import tm
print(type(telemetry).__name__, tm.__name__, [name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (
        done.stdout.splitlines()[-1] == "MagicMock openvino.tools.ovc.telemetry_stub []"
    )


def test_importing_rsft_changes_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import rsft, rsft.cli; assert"
        " os.environ == before; "
    )
    subprocess.run(
        [sys.executable, "-c", code + "assert 'openvino_telemetry' not in sys.modules"],
        check=True,
    )


def test_the_page_lists_every_package_and_variable():
    text = SECURITY.read_text("utf-8")
    rows = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert rows >= PACKAGES
    # the page must list every variable that is set
    for name, value in dependencies._VARIABLES.values():
        assert f"`{name}={value}`" in text


def test_an_installed_package_is_imported():
    assert require("json", "ray") is json


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(
        RequestError,
        match=r"no_such_thing cannot be imported.*pip install 'rsft\[ray\]'",
    ):
        require("no_such_thing.module", "ray")
    with pytest.raises(RequestError, match="pip install no_such_thing"):
        require("no_such_thing", "")
