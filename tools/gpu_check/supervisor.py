"""Run tasks in a process of their own, which may crash or hang.

A task that raises an error, ends its process or takes too long is a row with the
reason; a new process runs the tasks after it. It imports no PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from tools.gpu_check.rows import NotRunError, Outcome, Task, Title, first_line

Machine = dict[str, Any]
"""Description of the machine for the report."""

MakeTasks = Callable[[], tuple[Machine, Sequence[Task]]]
"""Returns the machine and all tasks; called in the process of the tasks."""


class StartError(Exception):
    """The tasks cannot be made; the message says why."""


class Limits(NamedTuple):
    """Limits of time in seconds: of all tasks, and of one."""

    total: float
    task: float


def run_supervised(
    make_tasks: MakeTasks, limits: Limits
) -> Iterator[tuple[Machine, Title, Outcome]]:
    """Run all tasks in order.

    Args:
        make_tasks: can be pickled.
        limits: tasks that the time does not suffice for are left out.

    Yields:
        The machine, the title and the outcome of each task.

    Raises:
        StartError: `make_tasks` fails.
    """
    deadline = time.monotonic() + limits.total
    reached = f"the time limit of {limits.total:g} s"
    titles: list[Title] = []
    machine: Machine = {}
    done = 0
    while True:
        worker = _Worker(make_tasks, done)
        try:
            start = worker.receive(deadline - time.monotonic())
            if not isinstance(start, tuple):
                reason = start or f"{reached} was reached before a task"
                if not titles:
                    raise StartError(reason)
                for title in titles[done:]:
                    yield machine, title, Outcome("left out", reason=reason)
                return
            machine, titles = start
            for title in titles[done:]:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    reason = f"{reached} was reached before it"
                    outcome: Any = Outcome("left out", reason=reason)
                else:
                    outcome = worker.receive(min(remaining, limits.task))
                if outcome is None:
                    is_late = remaining <= limits.task
                    outcome = Outcome("failed", reason=f"took over {limits.task:g} s")
                    if is_late:
                        reason = f"{reached} was reached during it"
                        outcome = Outcome("left out", reason=reason)
                elif isinstance(outcome, str):
                    outcome = Outcome("failed", reason=outcome)
                done += 1
                yield machine, title, outcome
                if outcome.status == "failed" and not outcome.figures:
                    break  # a GPU may accept nothing more after an error
            if done == len(titles):
                return
        finally:
            worker.stop()


class _Worker:
    """A process that makes the tasks and runs those from a number on."""

    def __init__(self, make_tasks: MakeTasks, first: int) -> None:
        context = get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=_run_tasks, args=(sender, make_tasks, first)
        )
        self._process.start()
        sender.close()

    def receive(self, seconds: float) -> Any:
        """Return the next message: None after the time, a str if the process ended."""
        try:
            if self._receiver.poll(max(0.0, seconds)):
                return self._receiver.recv()
        except (EOFError, OSError):
            self._process.join()
            return f"the process ended with exit code {self._process.exitcode}"
        return None

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._receiver.close()


def _run_tasks(sender: Connection, make_tasks: MakeTasks, first: int) -> None:
    """Send machine and titles, then the outcome of each task from `first` on."""
    try:
        machine, tasks = make_tasks()
    except Exception as error:  # the caller reports it
        sender.send(first_line(error))
        return
    sender.send(
        (machine, [Title(task.section, task.name, task.peer) for task in tasks])
    )
    for task in tasks[first:]:
        sender.send(_run(task))


def _run(task: Task) -> Outcome:
    try:
        return Outcome("ok", tuple(task.run()))
    except NotRunError as reason:
        return Outcome("not run", reason=str(reason))
    except Exception as error:  # the other tasks still run
        return Outcome("failed", reason=first_line(error))
