"""The lowest versions that pyproject.toml allows."""

import subprocess
import sys

import pytest

from tools.maintenance.lowest_bounds import PYPROJECT, lowest_versions


def test_versions_of_requirements():
    requirements = [
        "timm>=1.0.9",
        "ray[data]>=2.40,<3",
        "psutil>=5.9; sys_platform == 'win32'",
        "pandas-stubs",
        "b<2",
    ]
    assert lowest_versions(requirements) == {
        "timm": "1.0.9",
        "ray": "2.40",
        "psutil": "5.9",
    }
    assert lowest_versions(requirements, keep=["timm", "psutil"]) == {"ray": "2.40"}
    assert lowest_versions(["onnx>=1.9", "onnx>=1.16", "onnx"]) == {"onnx": "1.16"}
    with pytest.raises(ValueError, match="no requirement"):
        lowest_versions([">=1"])


def test_the_program_needs_no_package():
    command = [
        sys.executable,
        "-S",
        "-m",
        "tools.maintenance.lowest_bounds",
        "--keep",
        "torch",
    ]
    printed = subprocess.run(
        command, cwd=PYPROJECT.parent, capture_output=True, text=True, check=True
    ).stdout
    lines = printed.splitlines()
    assert "torchgeo==0.8.1" in lines
    assert not any(line.startswith("torch==") for line in lines)
