"""The main jobs contact no address outside of this machine: neither rsft, nor its
dependencies, nor their processes.

An audit hook sees the addresses that Python code uses. strace, if it is installed, also
sees those of libraries in C++.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rsft.inference.engines.base import FORMATS
from tests.helpers.bars_recipe import BARS_RECIPE

ROOT = Path(__file__).parents[1]
GUARD = ROOT / "tests/helpers/network_guard"
PROGRAM = """
import json, sys
from pathlib import Path
from rsft.cli import main

if __name__ == "__main__":
    for words in json.loads(Path(sys.argv[1]).read_text()):
        sys.argv = ["rsft", *words]
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, words
"""
STRACE = [
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-e",
    "trace=connect,sendto,sendmsg,sendmmsg",
    "-e",
    "signal=none",
]
LOCAL = re.compile(r'inet_addr\("127\.|"::1"|"::ffff:127\.|inet_addr\("0\.0\.0\.0"\)')


def outside_lines(log):
    """Return the lines of a log of strace that name an address outside of this
    machine."""
    return [
        line
        for line in log.read_text("utf-8").splitlines()
        if "AF_INET" in line and not LOCAL.search(line)
    ]


def run_guarded(tmp_path, command):
    """Run a command and return what it sent to other machines."""
    audit = tmp_path / "audit.log"
    trace = tmp_path / "strace.log"
    audit.touch(), trace.touch()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    environment |= {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home/.cache"),
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(GUARD), str(ROOT)]),
        "RSFT_NETWORK_LOG": str(audit),
    }
    tracer = [*STRACE, "-o", str(trace)] if shutil.which("strace") else []
    options = {
        "cwd": tmp_path,
        "env": environment | {"OMP_NUM_THREADS": "1"},
        "timeout": 850,
    }
    done = subprocess.run(
        [*tracer, *command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return audit.read_text("utf-8").splitlines() + outside_lines(trace)


def test_the_guard_sees_addresses_of_processes(tmp_path):
    code = """
import socket, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
    local.connect(("127.0.0.1", 9))
if len(sys.argv) == 1:
    subprocess.run([sys.executable, sys.argv[0], "child"], check=True)
else:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        try:
            other.connect(("192.0.2.9", 9))
        except OSError:
            pass
"""
    (tmp_path / "program.py").write_text(code)
    lines = run_guarded(tmp_path, [sys.executable, "program.py"])
    assert "socket.connect ('192.0.2.9', 9) program.py child" in lines
    assert all("192.0.2.9" in line for line in lines) and len(lines) == 1 + bool(
        shutil.which("strace")
    )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_main_jobs_stay_on_the_machine(class_folders, tmp_path):
    recipe = (
        BARS_RECIPE.replace("ROOT", "store")
        .replace("epochs: 3", "epochs: 1")
        .replace("blocks: 3", "blocks: 2")
    )
    (tmp_path / "bars.yaml").write_text(recipe)
    chips = "store/chips/val/flat"
    jobs = [
        ["doctor"],
        ["prepare", "folder", str(class_folders), "--root", "store"],
        ["finetune", "bars.yaml"],
    ]
    formats = [("onnx", "onnxruntime"), ("openvino", "nncf")]
    formats = [
        name for name, package in formats if name in FORMATS and find_spec(package)
    ]
    jobs += [["export", "runs/bars", "--format", name] for name in formats]
    int8 = ["--precision", "int8", "--max-loss", "100"]
    jobs += (
        [["export", "runs/bars", "--format", "openvino", "-o", "int8", *int8]]
        if "openvino" in formats
        else []
    )
    jobs += [
        ["predict", "runs/bars", chips, "-o", f"out-{name}.gpkg", "--engine", name]
        for name in ("torch", *formats)
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "program.py").write_text(PROGRAM)
    assert run_guarded(tmp_path, [sys.executable, "program.py", "jobs.json"]) == []
    # the client id of OpenVINO's telemetry
    assert not (tmp_path / "home/intel").exists()
