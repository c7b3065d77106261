"""The processes of a reader cell: start them, call functions in them, and end them."""

import builtins
import io
import logging
import operator
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from platformdirs import user_data_path

import rsft
from rsft.errors import DataError
from rsft.utils.cell import server
from rsft.utils.cell.answers import decode, find_class
from rsft.utils.cell.frames import read_blocks, write_blocks
from rsft.utils.cell.named import INSIDE
from rsft.utils.cell.walls import Walls
from rsft.utils.operating_system import watch_memory
from rsft.utils.remote_files import NO_SERVERS

_PROCESSES = 4  # largest number in a cell
_UNREADABLE = "the file cannot be read"
_ENDED = "its reader ended"
_HINT = "copy or download it again, or leave it out"
_SETTINGS = (
    "LANG",
    "LC_ALL",
    "TZ",
    "RSFT_",
    "CPL_",
    "PROJ_DATA",
    "PROJ_LIB",
    "GDAL_DATA",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",  # Windows starts no Python without it
)
"""Starts of the names of variables that a cell gets."""
_SERVER_SETTINGS = (
    "AWS_",
    "AZURE_",
    "GS_",
    "GOOGLE_",
    "OSS_",
    "GDAL_",
    "HTTP_",
    "HTTPS_",
    "NO_PROXY",
    "SSL_CERT_",
    "CURL_CA_",
)
"""Those of further variables, if it may contact servers."""
_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm",
    "/proc/sys/kernel",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/dev/null",
    "/dev/urandom",
)
_SOURCE = Path(rsft.__file__).absolute().parents[1]
_SERVERS = (
    "/etc/ssl",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
)


class ReaderCell:
    """Processes that read files behind walls.

    A thread that calls gets a process that is free, or a new one up to a small number.
    The first one starts at the first call.

    Args:
        walls: what they may do, apart from what Python needs.
        seconds: largest time of a call.
    """

    def __init__(self, walls: Walls, seconds: float) -> None:
        self.owner = os.getpid()
        paths = [path.absolute() for path in walls.readable] + _interpreter()
        if walls.connects:
            paths += [*map(Path, _SERVERS), Path("~/.aws").expanduser()]
        self._walls = walls._replace(readable=tuple(paths))
        self._seconds = seconds
        self._processes: list[_Process] = []
        self._open = frozenset[Path]()
        self._lock = threading.Lock()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of a module in the cell.

        Raises:
            DataError: the process ended, or needed more than its memory or time.
            Exception: whatever the function raises.
        """
        request = _Request(function, args, kwargs)
        result = (request.owner or self._choose()).call(request)
        if isinstance(result, Kept) and not request.owner:
            result.make_again = partial(self.call, function, *args, **kwargs)
        return result

    def allow(self, path: Path) -> None:
        """Let all processes that are started from now on read an absolute path."""
        if any(x in self._open for x in (path, *path.parents)):
            return
        with self._lock:
            paths = (*self._walls.readable, path)
            self._walls = self._walls._replace(readable=paths)
            self._processes.clear()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()
        self._processes.clear()

    def _choose(self) -> "_Process":
        """Return a process: a free one, else a new one, else any."""
        with self._lock:
            self._processes = [x for x in self._processes if x.is_alive]
            free = [x for x in self._processes if not x.lock.locked()]
            if free:
                return free[0]
            if len(self._processes) == _PROCESSES:
                return self._processes[threading.get_ident() % _PROCESSES]
            # a wall has no door for what does not exist yet
            self._open = frozenset(x for x in self._walls.readable if x.exists())
            self._processes.append(_Process(self._walls, self._seconds))
            return self._processes[-1]


class _EndedError(DataError):
    """The process of a call had ended before it."""


class Kept:
    """An object that stays in the cell.

    It is called, iterated and passed on as the object itself. If an earlier call ended
    its process, it is made again for the next call.

    Attributes:
        make_again: the call of the cell whose result it is, if it is one.
    """

    make_again: "Callable[[], Kept] | None" = None

    def __init__(self, process: "_Process", number: int) -> None:
        self.process = process
        self.number = number
        weakref.finalize(self, process.dropped.append, number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object in the cell."""
        try:
            return self._ask(operator.call, self, *args, **kwargs)
        except _EndedError:
            if not self.make_again:
                raise
        self._successor = self.make_again()  # kept, since the number is its own
        self.process = self._successor.process
        self.number = self._successor.number
        return self._ask(operator.call, self, *args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        """Yield the items of an iterator in the cell."""
        while True:
            has_next, item = self._ask(server.take, self)
            if not has_next:
                return
            yield item

    def _ask(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.process.call(_Request(function, args, kwargs))


class _Request(pickle.Pickler):
    """A call as bytes; its callbacks, and the process whose objects it names."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> None:
        buffer = io.BytesIO()
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.owner: _Process | None = None
        # in the order of LOG and WARN
        self.callbacks: list[Callable[..., object]] = [_log, warnings.warn]
        self.subject = next((str(x) for x in args if isinstance(x, Path | str)), "")
        self.dump((function, args, kwargs))
        self.data = buffer.getvalue()

    def reducer_override(self, value: Any) -> Any:
        """Return how the process finds an object of its own, and calls functions here.

        The latter are those without a name in a module.
        """
        if isinstance(value, Kept):
            self.owner = value.process
            return server.find_kept, (value.number,)
        is_local = isinstance(value, FunctionType) and "<" in value.__qualname__
        if is_local or isinstance(value, MethodType):
            self.callbacks.append(value)
            return server.Callback, (len(self.callbacks) - 1,)
        return NotImplemented


class _Process:
    """One process of a cell, and the pipes to it."""

    def __init__(self, walls: Walls, seconds: float) -> None:
        self.lock = threading.Lock()
        self.dropped: deque[int] = deque()
        self._memory = walls.memory
        self._seconds = seconds
        command = [sys.executable, "-P", "-s", "-m", "rsft.utils.cell"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the command
            env=_environment(connects=walls.connects),
        )
        assert self._process.stdin and self._process.stdout
        self._requests = self._process.stdin
        self._answers = self._process.stdout
        self._watch = _Watch(self._process)
        # ends it once, when this object goes or is closed
        self.close = weakref.finalize(self, _end, self._process, os.getpid())
        watch = partial(watch_memory, self._process, walls.memory)
        for target in (self._watch.run, watch):
            threading.Thread(target=target, daemon=True).start()
        pickle.dump(walls, self._requests)
        self._requests.flush()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, request: _Request) -> Any:
        """Send a call, and return or raise what it gives.

        The process ends if anything else happens, such as Ctrl-C.
        """
        with self.lock:
            if not self.is_alive:
                raise _EndedError(f"{_UNREADABLE}: {_ENDED}", request.subject, _HINT)
            kind, content = self._exchange(request)
        if kind == "raise":
            raise make_error(*content)
        return content

    def _exchange(self, request: _Request) -> tuple[str, Any]:
        dropped = [self.dropped.popleft() for _ in range(len(self.dropped))]
        try:
            write_blocks(self._requests, [request.data, pickle.dumps(dropped)])
            return self._receive(request)
        except (OSError, EOFError, ValueError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # it closed its pipes
            fault = self._explain(request, error)
            self.close()
            raise fault from error
        except BaseException:  # its answer would be that to the next request
            self.close()
            raise
        finally:
            self._watch.deadline = float("inf")

    def _receive(self, request: _Request) -> tuple[str, Any]:
        """Return the message that ends the call, and make the calls of others."""
        while True:
            self._watch.deadline = time.monotonic() + self._seconds
            answer = read_blocks(self._answers)
            if answer is None:
                raise EOFError
            message = decode(answer, lambda number: Kept(self, number))
            if not (isinstance(message, list) and len(message) == 2):
                raise ValueError("it is no message")
            kind, content = message
            if kind != "call":
                return kind, content
            number, args, kwargs = content
            request.callbacks[number](*args, **kwargs)

    def _explain(self, request: _Request, error: Exception) -> DataError:
        """Return the error for a process that gave no answer."""
        fault = f"{_ENDED}: {error}".removesuffix(": ")
        if self._watch.is_late:
            fault = f"it was not read within {self._seconds:,.0f} s"
        elif self._process.returncode == server.OUT_OF_MEMORY:
            fault = f"it was not read within {self._memory >> 30} GiB of memory"
        return DataError(f"{_UNREADABLE}: {fault}", request.subject, _HINT)


class _Watch:
    """Ends a process that sends nothing until a deadline."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.deadline = float("inf")
        self.is_late = False

    def run(self) -> None:
        """Watch the process until it ends."""
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                self.is_late = True
                self.process.kill()
            time.sleep(0.2)


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """End a process of a cell, unless this process is a copy of the one that began it.

    A copy, such as a worker that reads chips, must not end what the original uses; and
    the lock of its `Popen` may be held by a thread that was not copied.
    """
    if os.getpid() == owner:
        process.kill()
        process.wait()


def _log(name: str, level: int, text: str) -> None:
    logging.getLogger(name).log(level, "%s", text)


def make_error(
    module: str, name: str, args: tuple[Any, ...], values: dict[str, Any], note: str
) -> Exception:
    """Return an error as the cell raised it, which is one of Python or rsft."""
    is_builtin = module == "builtins"
    kind = getattr(builtins, name) if is_builtin else find_class(module, name)
    if not issubclass(kind, Exception):
        raise TypeError(f"{name} is no error")
    if is_builtin:
        error: Exception = kind(*args)
    else:
        error = kind.__new__(kind, *args)  # other values than those of __init__
    vars(error).update(values)
    error.add_note(note)
    return error


def _environment(*, connects: bool) -> dict[str, str]:
    """Return the variables of a cell: no more than it needs."""
    prefixes = (*_SETTINGS, *_SERVER_SETTINGS) if connects else _SETTINGS
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(prefixes)
    }
    return (
        settings
        | {
            INSIDE: "1",
            "HOME": "/nonexistent",
            "GDAL_CACHEMAX": "256",  # MB, as in a command
            "PYTHONPATH": os.pathsep.join([str(_SOURCE), *sys.path[1:]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "RSFT_GDAL_DRIVERS": "limited",  # see rsft.utils.untrusted.gdal_drivers
            NO_SERVERS: os.environ.get(NO_SERVERS, "") if connects else "-",
        }
    )


def _interpreter() -> list[Path]:
    """Return what Python needs: its libraries, packages, and those of the system."""
    paths = map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix, *sys.path[1:]))
    # grids, without which coordinates move
    return [*paths, _SOURCE / "rsft", user_data_path("proj")]
