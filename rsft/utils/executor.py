"""Run tasks in processes of this machine, or as tasks of a Ray cluster.

Each task has a process of its own: if it crashes or is killed, no other task notices. A
task outlives neither the `with` block of its executor nor the process that started it.
It is stopped with SIGTERM, so that it can save its state.

    with open_executor(address, jobs) as executor:
        futures = [executor.submit(work, item) for item in items]
        for future in as_completed(futures):
            print(future.result())
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from rsft.errors import RequestError
from rsft.utils.dependencies import require
from rsft.utils.operating_system import available_cores, stop_this_process
from rsft.utils.process_pool import end_with_parent

Result = TypeVar("Result")

SAVE_TIMEOUT_S = 60.0
"""Seconds in which a stopped task must save its state, before it is killed."""

_DEVICES = "CUDA_VISIBLE_DEVICES"
_STOP_CODES = (
    -signal.SIGINT,
    -signal.SIGTERM,
    128 + signal.SIGINT,
    128 + signal.SIGTERM,
)
"""Exit codes of a process that a signal stopped, with or without saving its state."""


class TaskLostError(Exception):
    """The process of a task ended before the task.

    Attributes:
        has_raised: whether it ended by itself, and has printed why.
    """

    def __init__(self, message: str, has_raised: bool = False) -> None:
        super().__init__(message)
        self.has_raised = has_raised


class TaskStoppedError(TaskLostError):
    """SIGINT or SIGTERM ended the process of a task."""


class Executor(ABC):
    """Run tasks in other processes; leaving its `with` block stops those that run.

    Within the block, SIGTERM raises `SystemExit`.

    Args:
        jobs: number of tasks at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._threads = ThreadPoolExecutor(jobs)
        self._lock = threading.Lock()
        self._is_open = True
        self._futures: set[Future[Any]] = set()

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Call a function in another process as soon as one is free.

        Args:
            work: a function of a module. It handles its own exceptions.
            arguments: picklable arguments; relative paths mean the same as here.

        Returns:
            The future result. It raises TaskLostError if the process ended too early.
        """
        future = self._threads.submit(self._run, work, arguments)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def __enter__(self) -> Self:
        self._handler = signal.getsignal(signal.SIGTERM)
        _set_sigterm_handler(lambda number, frame: sys.exit(128 + number))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_open = False
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._stop_tasks()
        wait(set(self._futures), SAVE_TIMEOUT_S)
        self._stop_tasks(force=True)
        self._threads.shutdown()
        _set_sigterm_handler(self._handler)

    @abstractmethod
    def _run(self, work: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        """Run a task in a process, and wait for its result."""

    @abstractmethod
    def _stop_tasks(self, force: bool = False) -> None:
        """Let the running tasks save their state and end, or with `force` kill them."""


def _set_sigterm_handler(handler: Any) -> None:
    with suppress(ValueError):  # only the main thread handles signals
        signal.signal(signal.SIGTERM, handler)


class ProcessExecutor(Executor):
    """Run tasks in processes of this machine, forked from a server where possible.

    Args:
        jobs: largest number of tasks at the same time; None for as many as cores and
            GPUs allow.
        cpus: threads of a task.
        gpus: GPUs of a task; with 0.25, four tasks share one GPU, and with 0 a task
            sees none. None gives each task a GPU if this machine has any.
        modules: modules that the server imports once for all tasks.

    Raises:
        RequestError: this machine has fewer GPUs than a task needs.
    """

    def __init__(
        self,
        jobs: int | None = None,
        cpus: int = 1,
        gpus: float | None = 0.0,
        modules: Sequence[str] = (),
    ) -> None:
        slots = max(1, len(available_cores()) // cpus)
        devices = _share_gpus(gpus) or [""] * slots
        super().__init__(min(slots, len(devices), jobs or slots))
        self._devices: SimpleQueue[str] = SimpleQueue()
        for names in devices:
            self._devices.put(names)
        self._context = _start_server(cpus, modules)
        self._processes: set[Any] = set()

    def _run(self, work: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        receiver, sender = self._context.Pipe(duplex=False)
        devices = self._devices.get()
        process = self._context.Process(
            target=_call, args=(sender, devices, Path.cwd(), work, arguments)
        )
        try:
            with self._lock:
                if not self._is_open:
                    raise CancelledError
                process.start()
                self._processes.add(process)
            sender.close()
            with receiver, suppress(EOFError):
                result: Result = receiver.recv()
                return result
        finally:
            # two threads must not wait for one process, as `start` does for all
            with self._lock:
                if process.pid is not None:
                    process.join(SAVE_TIMEOUT_S)
                    process.kill()
                    process.join()
                self._processes.discard(process)
            self._devices.put(devices)
        raise _describe_end(process.exitcode)

    def _stop_tasks(self, force: bool = False) -> None:
        for process in list(self._processes):
            if force:
                process.kill()
            else:
                process.terminate()


def _describe_end(code: int) -> TaskLostError:
    """Return the error of a process without a result, given its exit code."""
    if code in _STOP_CODES:
        return TaskStoppedError("its process was stopped")
    if code >= 0:
        return TaskLostError(f"its process ended with code {code}", has_raised=True)
    name = signal.Signals(-code).name
    message = f"its process was killed by {name}"
    if name == "SIGKILL":
        message += ", perhaps because the memory was full"
    return TaskLostError(message)


def _call(
    sender: Connection,
    devices: str,
    folder: Path,
    work: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    """Call a function in the process of a task, and send its result."""
    os.environ[_DEVICES] = devices
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    end_with_parent(stop_this_process)
    os.chdir(folder)
    sender.send(work(*arguments))


def _start_server(threads: int, modules: Sequence[str]) -> Any:
    """Return the context of processes; their server imports modules with some threads.

    Each process imports the main module of this one, so the server imports it too.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload([*modules, *{"rsft.cli"} & sys.modules.keys()])
    earlier = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    forkserver.ensure_running()
    if earlier is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = earlier
    return multiprocessing.get_context("forkserver")


def _share_gpus(gpus: float | None) -> list[str]:
    """Return the visible GPUs of each task that can run at the same time."""
    if gpus == 0:
        return []
    import torch

    count = torch.cuda.device_count()
    if gpus is None:
        gpus = 1
        if not count:
            return []
    names = os.environ.get(_DEVICES, ",".join(map(str, range(count)))).split(",")
    if gpus > count:
        raise RequestError(
            f"a task needs {gpus:g} GPUs, and this machine has {count}",
            hint="use fewer GPUs per task, or a cluster",
        )
    if gpus < 1:
        return names[:count] * int(1 / gpus)
    size = int(gpus)
    starts = range(0, count - size + 1, size)
    return [",".join(names[start : start + size]) for start in starts]


class RayExecutor(Executor):
    """Run tasks on a Ray cluster, whose machines share all named paths.

    Args:
        address: address of the cluster. "auto" is the address in the variable
            RAY_ADDRESS, the cluster that this machine belongs to, or a new one of this
            machine alone that ends with the executor.
        jobs: largest number of tasks at the same time; None for as many as cores and
            GPUs of the cluster allow.
        cpus: CPU cores of a task.
        gpus: GPUs of a task; None for one if the cluster has any.

    Raises:
        RequestError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(
        self,
        address: str,
        jobs: int | None,
        cpus: int,
        gpus: float | None,
    ) -> None:
        self._ray = require("ray", "ray")
        try:
            self._ray.init(
                None if address == "auto" else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # the class itself, if a node starts too slowly
            raise RequestError(
                f"no Ray cluster answers: {error}",
                address,
                "start it with ray start --head",
            ) from error
        resources = self._ray.cluster_resources()
        slots = resources.get("CPU", 1) / cpus
        if gpus is None:
            gpus = float("GPU" in resources)
        if gpus:
            slots = min(slots, resources.get("GPU", 0) / gpus)
        super().__init__(jobs or max(1, int(slots)))
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._task = self._ray.remote(**options)(_call_on_cluster)
        self._references: set[Any] = set()

    def _run(self, work: Callable[..., Result], arguments: Sequence[Any]) -> Result:
        with self._lock:
            if not self._is_open:
                raise CancelledError
            reference = self._task.remote(Path.cwd(), work, arguments)
            self._references.add(reference)
        try:
            result: Result = self._ray.get(reference)
            return result
        except self._ray.exceptions.TaskCancelledError as error:
            raise TaskStoppedError("its process was stopped") from error
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise TaskLostError(f"Ray lost the task: {reason}") from error
        finally:
            self._references.discard(reference)

    def _stop_tasks(self, force: bool = False) -> None:
        for reference in list(self._references):
            self._ray.cancel(reference, force=force)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._ray.shutdown()


def _call_on_cluster(
    folder: Path, work: Callable[..., Any], arguments: Sequence[Any]
) -> Any:
    """Call a function in a worker of Ray."""
    os.chdir(folder)
    return work(*arguments)


def open_executor(
    address: str | None = None,
    jobs: int | None = None,
    *,
    cpus: int = 1,
    gpus: float | None = 0.0,
    modules: Sequence[str] = (),
) -> Executor:
    """Return an executor on a Ray cluster, or on this machine without an address.

    The arguments are those of `RayExecutor` and `ProcessExecutor`.

    Raises:
        RequestError: the cluster, Ray or a GPU is missing.
    """
    if address is None:
        return ProcessExecutor(jobs, cpus, gpus, modules)
    return RayExecutor(address, jobs, cpus, gpus)
