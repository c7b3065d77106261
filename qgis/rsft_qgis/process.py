"""Run rsft, report its progress and stop it on request.

This module does not import QGIS.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from .executable import rsft_environment
from .json_lines import Epoch, Failure, Progress, Result, Start, parse_line

_POLL_SECONDS = 0.2
_STOP_SECONDS = 10.0
_LINES_OF_AN_ERROR = 20
_CANCELED = "canceled; run the same algorithm with the same output again to resume"


class Feedback(Protocol):
    """What a job reports; QgsProcessingFeedback has these methods."""

    def isCanceled(self) -> bool:
        """Return whether the user wants to stop."""

    def setProgress(self, progress: float) -> None:
        """Show the progress in percent."""

    def setProgressText(self, text: str) -> None:
        """Show the present task."""

    def pushConsoleInfo(self, info: str) -> None:
        """Show a line that the program printed."""


class RsftFailedError(Exception):
    """rsft stopped with an error. The text is its explanation."""


class RsftCanceledError(Exception):
    """The user stopped the job."""


def run_job(
    command: list[str], feedback: Feedback, canceled: str = _CANCELED
) -> Result:
    """Run a command that prints JSON lines.

    Args:
        command: the command line.
        feedback: receives the progress and other lines, and says whether to stop.
        canceled: text of the error if the user stops the job.

    Returns:
        The result in the last line.

    Raises:
        RsftFailedError: the command failed.
        RsftCanceledError: the user stopped it.
    """
    result = None
    failure = None
    task = ""
    epochs = 0
    printed: deque[str] = deque(maxlen=_LINES_OF_AN_ERROR)
    process = _start(command)
    for line in _lines_until_end(process, feedback, canceled):
        event = parse_line(line)
        if isinstance(event, Progress):
            if event.task != task:
                task = event.task
                feedback.setProgressText(task)
            feedback.setProgress(event.percent)
        elif isinstance(event, Start):
            epochs = event.epochs
        elif isinstance(event, Epoch):
            feedback.pushConsoleInfo(event.describe(epochs))
        elif isinstance(event, Failure):
            failure = event
        elif isinstance(event, Result):
            result = event
        # after the event, rsft prints the error as text
        elif event is None and line.strip() and failure is None:
            printed.append(line)
            feedback.pushConsoleInfo(line)
    if process.returncode or result is None:
        raise RsftFailedError(
            str(failure)
            if failure
            else describe_failure(process.returncode, "\n".join(printed), True)
        )
    return result


class Printed(NamedTuple):
    """Exit code of a program, and what it printed."""

    code: int
    text: str


def run_program(command: list[str], feedback: Feedback, canceled: str) -> Printed:
    """Run a program and show what it prints.

    Args:
        command: the command line.
        feedback: receives the lines, and says whether to stop.
        canceled: text of the error if the user stops the program.

    Raises:
        RsftFailedError: the program cannot be started.
        RsftCanceledError: the user stopped it.
    """
    process = _start(command)
    lines = []
    for line in _lines_until_end(process, feedback, canceled):
        lines.append(line)
        feedback.pushConsoleInfo(line)
    return Printed(process.returncode, "\n".join(lines))


def run_json(command: list[str], feedback: Feedback) -> dict[str, Any]:
    """Run a command that prints one JSON object.

    Args:
        command: the command line.
        feedback: says whether to stop.

    Returns:
        The object.

    Raises:
        RsftFailedError: the command failed, or printed something else.
        RsftCanceledError: the user stopped it.
    """
    process = _start(command)
    printed = "\n".join(_lines_until_end(process, feedback))
    start = printed.find("{")
    if process.returncode == 0 and start >= 0:
        try:
            value, _ = json.JSONDecoder().raw_decode(printed[start:])
        except ValueError:
            pass
        else:
            return dict(value)
    raise RsftFailedError(describe_failure(process.returncode, printed))


def describe_failure(code: int, printed: str, is_shown: bool = False) -> str:
    """Return the text of an error that rsft did not report as JSON.

    Args:
        code: exit code.
        printed: last lines that rsft printed.
        is_shown: whether the log has them already.
    """
    text = printed.strip() or "it printed nothing"
    if is_shown and printed.strip():
        text = "the last lines of the log say why"
    else:
        text = text
    if "No such option" in printed or "No such command" in printed:
        text += (
            "\nhint: this rsft is too old for the plug-in, or an additional option is"
            " wrong; update rsft"
        )
    return f"rsft stopped with exit code {code}:\n{text}"


def _start(command: list[str]) -> subprocess.Popen[str]:
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows: no console window
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=rsft_environment(os.environ),
            encoding="utf-8",
            errors="replace",
            creationflags=flags,
        )
    except OSError as error:
        raise RsftFailedError(
            f"{command[0]} cannot be started: {error.strerror or error}"
        ) from error


def _lines_until_end(
    process: subprocess.Popen[str], feedback: Feedback, canceled: str = _CANCELED
) -> Iterator[str]:
    """Iterate over lines until the process ends.

    A thread reads them, so that cancelling needs no further line.
    """
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        while True:
            if feedback.isCanceled():
                raise RsftCanceledError(canceled)
            try:
                line = lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                break
            yield line
    finally:
        _stop(process)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    if process.stdout is not None:
        with process.stdout as stdout:
            for line in stdout:
                lines.put(line.rstrip("\r\n"))
    process.wait()
    lines.put(None)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
