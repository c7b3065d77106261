"""Tasks in processes of their own, and as tasks of a Ray cluster."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import as_completed
from pathlib import Path

import pytest

from rsft.errors import RequestError
from rsft.utils import executor as module
from rsft.utils.executor import TaskLostError, TaskStoppedError, open_executor
from tests.helpers.messages import mentions

SLEEP = 300.0


def exit_with(code):
    os._exit(code)


def end_by(number):
    """End by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(SLEEP)
    raise AssertionError("the process lives")


def save_when_stopped(path):
    """Write the number of this process, and save a state when SIGTERM arrives."""

    def save(*_):
        path.with_suffix(".saved").touch()
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, save)
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(SLEEP)


def visible_devices():
    return os.environ["CUDA_VISIBLE_DEVICES"]


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def test_results_of_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("from here")
    with open_executor(jobs=2) as executor:
        futures = [executor.submit(pow, 2, power) for power in range(4)]
        read = executor.submit(Path.read_text, Path("here.txt"))
        assert {future.result() for future in as_completed(futures)} == {1, 2, 4, 8}
        assert read.result() == "from here"
        assert executor.submit(os.getpid).result() != os.getpid()


def test_a_crash_loses_one_task():
    with open_executor(jobs=1) as executor:
        crashed = executor.submit(exit_with, 3)
        killed = executor.submit(end_by, signal.SIGKILL)
        fine = executor.submit(pow, 2, 3)
        with pytest.raises(TaskLostError, match=mentions("code", "3")):
            crashed.result()
        with pytest.raises(TaskLostError, match=mentions("SIGKILL", "memory")):
            killed.result()
        assert fine.result() == 8


def test_the_end_of_the_block_stops_its_tasks(tmp_path):
    with open_executor(jobs=1) as executor:
        running = executor.submit(save_when_stopped, tmp_path / "a")
        waiting = executor.submit(pow, 2, 3)
        wait_for((tmp_path / "a").exists)
    assert (tmp_path / "a.saved").exists() and waiting.cancelled()
    assert isinstance(running.exception(), TaskStoppedError)
    assert not Path(f"/proc/{(tmp_path / 'a').read_text()}").exists()


DRIVER = """
import sys, time
from pathlib import Path
from rsft.utils.executor import open_executor
from tests.utils.test_executor import save_when_stopped
if __name__ == "__main__":
    with open_executor(jobs=1) as executor:
        executor.submit(save_when_stopped, Path(sys.argv[1]))
        time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_task_outlives_the_process_that_started_it(tmp_path, number):
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, tmp_path / "driver.py", tmp_path / "a"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment) as driver:
        wait_for((tmp_path / "a").exists)
        driver.send_signal(number)
    wait_for((tmp_path / "a.saved").exists)
    wait_for(lambda: not Path(f"/proc/{(tmp_path / 'a').read_text()}").exists())
    assert driver.returncode == (-number if number == signal.SIGKILL else 128 + number)


def test_tasks_share_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # no machine of the tests has several GPUs
    assert module._share_gpus(0.5) == ["0", "1", "0", "1"]
    assert module._share_gpus(1) == ["0", "1"]
    assert module._share_gpus(2) == ["0,1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    assert module._share_gpus(1) == ["6", "7"]
    with open_executor(jobs=1, gpus=2) as executor:
        assert executor.submit(visible_devices).result() == "6,7"
    with open_executor(jobs=1) as executor:
        assert executor.submit(visible_devices).result() == ""
    with pytest.raises(RequestError, match=mentions("3", "2")):
        open_executor(gpus=3)


def test_number_of_tasks_at_the_same_time(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: list(range(8)))
    assert module.ProcessExecutor(cpus=3).jobs == 2
    assert module.ProcessExecutor(jobs=5).jobs == 5
    assert module.ProcessExecutor(jobs=50).jobs == 8
    assert module.ProcessExecutor(cpus=9).jobs == 1


def test_the_environment_is_kept():
    before = dict(os.environ)
    with open_executor(jobs=1, cpus=2):
        assert dict(os.environ) == before
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("kind", [ConnectionError, Exception])
def test_no_cluster_at_the_address(monkeypatch, kind):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    calls = []

    def refuse(address, **options):
        calls.append((address, os.environ["RAY_USAGE_STATS_ENABLED"]))
        raise kind("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(RequestError, match=mentions("Ray", "nobody answers")):
        open_executor("far:6379")
    assert calls == [("far:6379", "0")]


class FakeRay:
    """A stand-in of Ray: tasks run in this process, and may crash."""

    class exceptions:
        class RayError(Exception):
            pass

        class TaskCancelledError(RayError):
            pass

    def __init__(self):
        self.options = {}
        self.is_open = False

    def init(self, address, **_):
        self.is_open = True

    def shutdown(self):
        self.is_open = False

    def cluster_resources(self):
        return {"CPU": 8.0, "GPU": 1.0}

    def remote(self, **options):
        self.options = options

        def decorate(function):
            function.remote = lambda *arguments: (function, arguments)
            return function

        return decorate

    def get(self, reference):
        function, arguments = reference
        return function(*arguments)

    def cancel(self, reference, force):
        raise AssertionError("no task is left")


def test_tasks_of_a_cluster(monkeypatch, tmp_path):
    ray = FakeRay()
    monkeypatch.setattr(module, "require", lambda *_: ray)
    monkeypatch.chdir(tmp_path)

    def crash(kind):
        raise kind("lost\nthe worker died")

    with open_executor("auto", cpus=3, gpus=0.5) as executor:
        assert executor.jobs == 2 and ray.is_open
        assert ray.options == {"num_cpus": 3, "num_gpus": 0.5, "max_retries": 0}
        assert executor.submit(pow, 2, 3).result() == 8
        lost = executor.submit(crash, ray.exceptions.RayError)
        with pytest.raises(TaskLostError, match="the worker died"):
            lost.result()
        stopped = executor.submit(crash, ray.exceptions.TaskCancelledError)
        with pytest.raises(TaskStoppedError):
            stopped.result()
    assert not ray.is_open


@pytest.mark.parametrize(
    ("gpus", "count", "shares"),
    [
        (0, 4, []),
        (None, 0, []),
        (None, 2, ["0", "1"]),
        (1, 2, ["0", "1"]),
        (2, 5, ["0,1", "2,3"]),
        (0.5, 2, ["0", "1", "0", "1"]),
    ],
)
def test_gpus_are_shared_by_tasks(monkeypatch, gpus, count, shares):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    # this machine may have none
    assert module._share_gpus(gpus) == shares
    with pytest.raises(RequestError, match=mentions("needs 6 GPUs", f"has {count}")):
        module._share_gpus(6)
