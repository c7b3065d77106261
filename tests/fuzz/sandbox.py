"""Read inputs in a child process, and observe it from outside: crashes, hangs, memory,
files and requests."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyogrio

from rsft.data.imagery import rasters, vectors
from rsft.errors import DataError, RsftError
from rsft.utils.cell import client, processes
from rsft.utils.cell.client import current_cell, open_cell
from rsft.utils.cell.server import OUT_OF_MEMORY
from rsft.utils.cell.walls import Walls
from rsft.utils.untrusted.gdal_drivers import LIMIT, limit_drivers
from tests.fuzz.mutate import PORT
from tests.fuzz.target import Target
from tests.helpers.vector_layers import CellHere

CPU_SECONDS = 10
"""An input takes no longer, in seconds of the processor, so that other jobs on the
machine do not matter."""
WALL_SECONDS = 60
"""An input takes no longer by the clock: a reader may also wait for something that
never comes."""
MEMORY_FACTOR = 2
"""The peak of the process with any input is at most this factor times its peak with the
valid input."""
MORE_ADDRESSES = 3 * 2**30
"""Bytes of addresses that a reader may ask for beyond those that the process has after
the valid input."""

CELL_SECONDS = WALL_SECONDS - 10
"""A call of the reader cell takes no longer by the clock."""

PASSED = ("accepted", "told")
ENDING = ("memory", "hang", "crash")
"""Faults after which the next input gets a new process."""

_connections: list[str] = []
_ends: list[tuple[str, str]] = []
"""Kind and name of the fault for each end of a process of the reader cell."""


class _Hang(BaseException):
    """The time of an input is over."""


@dataclass(frozen=True)
class Outcome:
    """What an input did.

    Attributes:
        index: number of the input.
        kind: "accepted", "told" (an error of rsft that names the file), or a fault:
            "traceback", "unnamed" (an error of rsft that does not), "lost" (a valid
            file beside it was rejected), "hang", "crash", "memory", "leftover",
            "network". A process of the reader cell that ends has a fault, whatever the
            reader says.
        name: exception and place of a fault, or the error in words.
        detail: traceback of a fault.
        seconds: seconds of the processor.
    """

    index: int
    kind: str
    name: str = ""
    detail: str = ""
    seconds: float = 0.0


def run(
    target: Target,
    count: int,
    inputs: Callable[[int, dict[str, bytes]], tuple[str, bytes]],
    workplace: Path,
    with_cell: bool = True,
) -> Iterator[Outcome]:
    """Read inputs one after the other. A process that a fault ended is replaced.

    Args:
        target: the class of input.
        count: number of inputs.
        inputs: returns the changed file of an input by its number, from the valid
            files.
        workplace: an empty folder.
        with_cell: whether readers run in the reader cell, as in a command.

    Yields:
        The outcome of each input.
    """
    index = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        while index < count:
            for outcome in _run_process(
                target, range(index, count), inputs, workplace, listener, with_cell
            ):
                yield outcome
                index = outcome.index + 1


def _run_process(
    target: Target,
    indices: range,
    inputs: Callable[..., tuple[str, bytes]],
    workplace: Path,
    listener: socket.socket,
    with_cell: bool,
) -> Iterator[Outcome]:
    """Start a process, and receive its outcomes until it ends or is ended."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    # otherwise a collection in the copy looks at the objects of all imported modules,
    # half a second
    gc.freeze()
    process = context.Process(
        target=_work,
        args=(target, indices, inputs, workplace, sender, listener, with_cell),
        daemon=True,
    )
    process.start()
    sender.close()
    current = -1
    requested = False  # -1: the valid input
    try:
        while True:
            ready = wait([receiver, listener], WALL_SECONDS)
            if not ready:
                yield _outcome_of(target, Outcome(current, "hang", "hang_without_end"))
                return
            if listener in ready:
                listener.accept()[0].close()
                requested = True
            if receiver not in ready:
                continue
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                if current >= indices.stop:
                    return
                code = process.exitcode or 0
                name = signal.Signals(-code).name if code < 0 else str(code)
                yield _outcome_of(target, Outcome(current, "crash", f"crash_{name}"))
                return
            if isinstance(message, int):
                current = message
                continue
            outcome = _outcome_of(target, message)
            yield (
                Outcome(outcome.index, "network", "request_to_a_server")
                if requested
                else outcome
            )
            if message.kind in ENDING:
                return  # the next process begins without the memory of this one
            requested = False
    finally:
        process.kill()
        process.join()
        receiver.close()


def _outcome_of(target: Target, outcome: Outcome) -> Outcome:
    if outcome.index < 0:
        raise RuntimeError(
            f"the valid input of {target.name} has a fault:"
            f" {outcome.name}\n{outcome.detail}"
        )
    return outcome


def _work(
    target: Target,
    indices: range,
    inputs: Callable[..., tuple[str, bytes]],
    workplace: Path,
    sender: Connection,
    listener: socket.socket,
    with_cell: bool,
) -> None:
    """Read the inputs, and send the number of each input before, and its outcome after
    it."""
    _isolate(workplace)
    folder = workplace / "input"
    try:
        originals = write_originals(target, folder)
    except Exception as error:
        sender.send(Outcome(-1, "traceback", type(error).__name__, _format(error)))
        return
    os.environ[LIMIT] = "limited"  # as in the process that reads layers
    limit_drivers(pyogrio._io.__file__, vectors._DRIVERS)
    vectors.ReaderCell = _LayerCell
    rasters.ReaderCell = _Fork
    if with_cell:
        _open_observed_cell(workplace)
    expected = _list_files(folder)
    port = b"%05d" % listener.getsockname()[1]
    sender.send(-1)
    valid = _read(target, -1, "", folder, workplace, expected)
    if valid.kind != "accepted":
        sender.send(valid)
        return
    _clean(folder, expected)
    peaks = {process: _status("VmHWM", process) for process in _processes()}
    for process in peaks:
        limit = _status("VmSize", process) + MORE_ADDRESSES
        resource.prlimit(process, resource.RLIMIT_AS, (limit, limit))
    gc.collect()
    gc.freeze()
    for index in indices:
        try:
            file, content = inputs(index, originals)
        except Exception as error:
            sender.send(
                Outcome(
                    -1,
                    "traceback",
                    f"the mutator raises {type(error).__name__}",
                    _format(error),
                )
            )
            return
        (folder / file).write_bytes(content.replace(PORT, port))
        sender.send(index)
        outcome = _read(target, index, file, folder, workplace, expected)
        for process, peak in peaks.items():
            if outcome.kind not in PASSED:
                break
            size = _status("VmHWM", process)
            if size > MEMORY_FACTOR * peak:
                name = f"memory_{size >> 20}_MiB_instead_of_{peak >> 20}"
                outcome = Outcome(index, "memory", name)
        sender.send(outcome)
        _clean(folder, expected)
        _clean(workplace / "temporary", set())
        (folder / file).write_bytes(originals[file])
    sender.send(indices.stop)


def write_originals(target: Target, folder: Path) -> dict[str, bytes]:
    """Write the valid input anew, because a process that a fault ended leaves anything,
    and return its files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    target.build(folder)
    return {name: (folder / name).read_bytes() for name in target.mutators}


def _isolate(workplace: Path) -> None:
    """Give the process its own folders and no output, and let it see its requests."""
    for name in ("temporary", "cache", "home"):
        (workplace / name).mkdir(exist_ok=True)
    os.environ |= {
        "TMPDIR": str(workplace / "temporary"),
        "XDG_CACHE_HOME": str(workplace / "cache"),
    }
    os.environ |= {"HOME": str(workplace / "home"), "NO_COLOR": "1"}
    # PyTorch makes it when it is imported
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(workplace / "cache")
    tempfile.tempdir = str(workplace / "temporary")
    os.chdir(workplace / "home")
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    faulthandler.disable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.addaudithook(_notice_requests)
    signal.signal(signal.SIGPROF, _end)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _open_observed_cell(workplace: Path) -> None:
    """Open the reader cell, and notice when one of its processes ends."""
    client.MAX_SECONDS = CELL_SECONDS
    # private, because a reader may turn the error into a line about a file
    explain = processes._Process._explain

    def notice(process: Any, request: Any, error: Exception) -> RsftError:
        # private, because only the process knows why it ended
        code = process._process.returncode
        if process._watch.is_late:
            _ends.append(("hang", "hang_in_the_cell"))
        elif code == OUT_OF_MEMORY:
            _ends.append(("memory", "memory_of_the_cell"))
        else:
            _ends.append(("crash", f"crash_of_the_cell_{code}"))
        return explain(process, request, error)

    processes._Process._explain = notice
    open_cell([workplace])


def _processes() -> list[int]:
    """Return the numbers of this process and of those of the reader cell."""
    cell = current_cell()
    # private, because a command needs no numbers of processes
    running = [] if cell is None else cell._processes
    return [os.getpid(), *(process._process.pid for process in running)]


class _LayerCell(CellHere):
    """The open cell, because one for each layer takes half a second."""

    def __init__(self, walls: Walls, seconds: float) -> None:
        self._open = None if walls.writable else current_cell()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._open is None:
            return super().call(function, *args)
        return self._open.call(function, *args)


class _Fork(CellHere):
    """A cell that is a copy of this process, because one for each input takes half a
    second; its crash is what a cell tells, too."""

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        if pid := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code:
                raise DataError("it was not read")
            return
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        code = 1
        with contextlib.suppress(BaseException):
            function(*args)
            code = 0
        os._exit(code)


def _notice_requests(event: str, arguments: tuple[Any, ...]) -> None:
    is_request = event in ("socket.getaddrinfo", "socket.sendto") or (
        event == "socket.connect"
        and getattr(arguments[0], "family", None) != socket.AF_UNIX
    )
    if is_request:
        _connections.append(event)
        raise PermissionError("no requests to the network")


def _end(number: int, frame: Any) -> None:
    raise _Hang


def _read(
    target: Target,
    index: int,
    file: str,
    folder: Path,
    workplace: Path,
    expected: set[str],
) -> Outcome:
    """Read one input, of which `file` was changed, and describe what it did."""
    _connections.clear()
    _ends.clear()
    started = _cpu_seconds()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            rejected = target.read(folder) or ()
        lost = [name for name in rejected if Path(name).name != Path(file).name]
        outcome = (
            Outcome(index, "lost", f"lost_{_as_name(Path(lost[0]).name)}")
            if lost
            else Outcome(index, "accepted")
        )
    except _Hang as error:
        outcome = Outcome(index, "hang", f"hang_{_place(error)}", _format(error))
    except BaseException as error:
        kind = (
            "told"
            if isinstance(error, RsftError)
            else "memory"
            if isinstance(error, MemoryError)
            else "traceback"
        )
        names = {"file": Path(file).parts, "folder": (str(folder),), "": ("",)}[
            target.named_by
        ]
        if kind == "told" and not any(name in str(error) for name in names):
            kind = "unnamed"
        name = f"{type(error).__name__}_{_place(error)}"
        outcome = Outcome(
            index, kind, name, str(error) if kind == "told" else _format(error)
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = _cpu_seconds() - started
    if _ends:
        return Outcome(index, *_ends[0], outcome.detail or outcome.name, seconds)
    if index % 50 == 0:
        gc.collect()
    if _connections:
        return Outcome(
            index, "network", f"network_{_connections[0]}", outcome.detail, seconds
        )
    if outcome.kind in PASSED:
        allowed = target.outputs if outcome.kind == "accepted" else ()
        files = {
            name
            for name in _list_files(folder) - expected
            if not name.startswith(allowed or ("\0",))
        }
        files |= {f"temporary/{name}" for name in _list_files(workplace / "temporary")}
        if files:
            return Outcome(
                index,
                "leftover",
                f"leftover_{_as_name(min(files))}",
                "\n".join(sorted(files)),
                seconds,
            )
    return Outcome(outcome.index, outcome.kind, outcome.name, outcome.detail, seconds)


def _place(error: BaseException) -> str:
    """Return the innermost line of rsft, or else of any file, as in "store.py_93"."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "/rsft/" in frame.filename and "site-packages" not in frame.filename
    ]
    frame = (ours or frames)[-1]
    path = Path(frame.filename)
    return _as_name(f"{path.parent.name}_{path.name}_{frame.lineno}")


def _as_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII)[:100]


def _format(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error, limit=-12))
    return lines if len(lines) < 6000 else lines[:1000] + "\n...\n" + lines[-4000:]


def _list_files(folder: Path) -> set[str]:
    paths = set()
    for parent, folders, files in os.walk(folder):
        paths |= {
            os.path.relpath(os.path.join(parent, name), folder)  # noqa: PTH118
            for name in (*folders, *files)
        }
    return paths


def _clean(folder: Path, expected: set[str]) -> None:
    # content before its folder
    for name in sorted(_list_files(folder) - expected, reverse=True):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def _cpu_seconds() -> float:
    """Return the seconds that this process and the reader cell have used."""
    seconds = time.process_time()
    for process in _processes()[1:]:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
            ticks = sum(map(int, fields.split()[11:13]))
            seconds += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _status(key: str, process: int) -> int:
    """Return a value of /proc/<process>/status in bytes."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)[0]) << 10
