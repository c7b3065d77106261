"""A process with limits reads a file; its death or time-out is a fault of that file."""

import pytest

from rsft.utils.fence import fence_version
from rsft.utils.untrusted import limited_process
from rsft.utils.untrusted.limited_process import run_limited

LIMITS = (
    "import sys; from pathlib import Path; from rsft.utils.untrusted.limited_process"
    " import enter_limits\n"
)


def test_the_output_of_a_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('the module of a stranger')")
    assert (
        run_limited("import sys, json; print(json.loads(sys.stdin.read()))", b"[1]")
        == b"[1]\n"
    )


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("bytearray(2**33)", "within 4 GiB of memory"),
        ("import os; os.kill(os.getpid(), 9)", "within 4 GiB of memory"),
        ("raise ValueError('no layer')", "ValueError: no layer"),
        ("while True: pass", "within 1 s"),
    ],
)
def test_limits(monkeypatch, program, message):
    monkeypatch.setattr(
        limited_process, "MAX_PROCESS_SECONDS", 1 if "while" in program else 60
    )
    with pytest.raises(ValueError, match=message):
        run_limited(f"{LIMITS}enter_limits([])\n{program}", b"")


@pytest.mark.skipif(not fence_version(), reason="the kernel has no Landlock")
def test_other_files_and_servers_are_out_of_reach(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    enter = f"{LIMITS}import socket; enter_limits([Path({str(tmp_path / 'in')!r})])\n"
    assert (
        run_limited(f"{enter}print(Path({str(tmp_path / 'in/a')!r}).read_text())", b"")
        == b"in\n"
    )
    for action in (
        f"Path({str(tmp_path / 'out/a')!r}).read_text()",
        f"Path({str(tmp_path / 'in/b')!r}).write_text('')",
        "socket.create_connection(('127.0.0.1', 9))",
    ):
        with pytest.raises(ValueError, match="PermissionError"):
            run_limited(enter + action, b"")
