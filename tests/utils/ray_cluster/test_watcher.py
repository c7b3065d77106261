"""Processes of a session end with the process that started it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rsft.utils.ray_cluster import watcher
from rsft.utils.ray_cluster.watcher import VARIABLE, processes_end_with_this_one

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"]
SESSION = f"""
import subprocess, time
from rsft.utils.ray_cluster.watcher import processes_end_with_this_one
with processes_end_with_this_one():
    print(subprocess.Popen({SLEEP!r}, start_new_session=True).pid, flush=True)
    time.sleep(300)
"""


linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lists the environment of processes"
)


def has_ended(pid):
    """Wait at most 20 s for the end of a process."""
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@linux
def test_processes_that_are_left_at_the_end_of_the_block_are_killed():
    outside = subprocess.Popen(SLEEP)
    with processes_end_with_this_one():
        inside = subprocess.Popen(SLEEP, start_new_session=True)
    assert inside.wait(20) == -signal.SIGKILL
    assert VARIABLE not in os.environ
    assert outside.poll() is None  # it began before the block
    outside.kill()
    outside.wait()


@linux
@pytest.mark.parametrize("whole_group", [False, True])
def test_processes_end_after_the_process_is_killed(whole_group):
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
    process.wait()
    try:
        assert has_ended(pid)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.exhaustive
@linux
def test_a_process_that_replaces_its_environment_is_killed():
    pytest.importorskip("ray")
    code = (
        "import time; from ray._raylet import setproctitle; time.sleep(1);"
        " setproctitle('ray::' + 9999 * 'x')"
    )
    replace = [sys.executable, "-c", f"{code}; print(flush=True); time.sleep(300)"]
    with processes_end_with_this_one():
        process = subprocess.Popen(
            replace, stdout=subprocess.PIPE, env={VARIABLE: os.environ[VARIABLE]}
        )
        assert process.stdout is not None
        process.stdout.readline()
        assert (
            VARIABLE.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
        )
    assert process.wait(20) == -signal.SIGKILL


@linux
def test_an_error_in_the_block_is_raised():
    with pytest.raises(KeyError, match="fault"), processes_end_with_this_one():
        inside = subprocess.Popen(SLEEP)
        raise KeyError("fault")
    assert inside.wait(20) == -signal.SIGKILL


def test_no_watcher_starts_where_the_environment_of_processes_is_not_listed(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(watcher, "_PROCESSES", tmp_path / "missing")
    monkeypatch.setattr(watcher.subprocess, "Popen", None)  # is not called
    with processes_end_with_this_one():
        assert VARIABLE not in os.environ
