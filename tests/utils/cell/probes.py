"""Functions that the tests call in a reader cell."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

from rsft.errors import DataError
from rsft.utils.cell import server

_MPTCP = 262


def echo(value):
    return value


def read(path):
    return Path(path).read_text()


def count(stop):
    yield from range(stop)


def adder(first):
    return lambda second: np.add(first, second)


def reader(fault):
    """Return a function that fails at a negative number."""

    def read(number):
        if number < 0 and fault == "its reader ended":
            end()
        if number < 0:
            sleep(60)
        return number

    return read


def report(progress):
    progress(1, total=2)
    return "done"


def speak():
    logging.getLogger("rsft.probe").warning("a line")
    warnings.warn("a warning", UserWarning, stacklevel=1)


def fail(kind):
    if kind == "rsft":
        raise DataError("a fault", "a.tif", "leave it out")
    if kind == "os":
        raise FileNotFoundError(2, "No such file", "a.tif")
    raise kind("no reason")


def sleep(seconds):
    time.sleep(seconds)


def allocate(size):
    return len(bytearray(size))


def end():
    os._exit(3)


def answer_too_much():
    sys.stdout.write("noise")
    sys.stdout.flush()
    return "quiet"


def use_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(sum(range(10))))
    thread.start()
    thread.join()
    return found[0]


def attempt(name, target):
    """Return "" if an action succeeds, else the name of the error."""
    try:
        _ACTIONS[name](target)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return type(error).__name__
    return ""


def _connect(family, kind, address):
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)


def _call(number, *args):
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _fast_open(port):
    with socket.socket() as client:
        client.sendto(b"x", 0x20000000, ("127.0.0.1", port))


def _share(_):
    from multiprocessing.shared_memory import SharedMemory

    SharedMemory(create=True, size=8).unlink()


_ACTIONS = {
    "read outside": lambda t: Path(t["secret"]).read_text(),
    "list outside": lambda t: list(Path(t["secret"]).parent.iterdir()),
    "list the root": lambda _: list(Path("/").iterdir()),
    "environment of the parent": lambda t: Path(
        f"/proc/{t['parent']}/environ"
    ).read_bytes(),
    "memory of the parent": lambda t: Path(f"/proc/{t['parent']}/mem").read_bytes(),
    "passwords": lambda _: Path("/etc/shadow").read_text(),
    "users": lambda _: Path("/etc/passwd").read_text(),
    "write a named file": lambda t: Path(t["named"]).write_text("x"),
    "new file beside": lambda t: Path(t["named"]).with_name("new").touch(),
    "temporary file": lambda _: Path("/tmp/rsft-probe").touch(),
    "shared memory": _share,
    "remove a named file": lambda t: Path(t["named"]).unlink(),
    "rename a named file": lambda t: Path(t["named"]).rename(f"{t['named']}2"),
    "mode of a named file": lambda t: Path(t["named"]).chmod(0o777),
    "time of a named file": lambda t: os.utime(t["named"], (0, 0)),
    "link to the secret": lambda t: Path(f"{t['named']}3").symlink_to(t["secret"]),
    "TCP": lambda t: socket.create_connection(("127.0.0.1", t["port"]), 2),
    "TCP over IPv6": lambda t: socket.create_connection(("::1", t["port"]), 2),
    "MPTCP": lambda t: _connect(socket.AF_INET, _MPTCP, ("127.0.0.1", t["port"])),
    "TCP fast open": lambda t: _fast_open(t["port"]),
    "UDP": lambda t: _connect(
        socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", t["port"])
    ),
    "UNIX socket": lambda t: _connect(socket.AF_UNIX, socket.SOCK_STREAM, t["socket"]),
    "abstract UNIX socket": lambda t: _connect(
        socket.AF_UNIX, socket.SOCK_STREAM, t["abstract"]
    ),
    "netlink": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "pair of sockets": lambda _: socket.socketpair(),
    "signal to the parent": lambda t: os.kill(t["parent"], 0),
    "signal to its group": lambda _: os.kill(0, signal.SIGCONT),
    "program": lambda _: subprocess.run(["/bin/true"], check=True),
    "execute": lambda _: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "fork": lambda _: os.fork() or os._exit(0),
    "trace": lambda t: _call(101, 16, t["parent"], 0, 0),
    "ring of calls": lambda _: _call(425, 1, 0),
}
ACTIONS = list(_ACTIONS)


def environment():
    return dict(os.environ)


def apply(function, value):
    return function(value)


def count_kept():
    # no answer tells what stays
    return len(server._kept)


class UnicodeError(Exception):
    """An error of a class that the command does not know."""


def sleepy_pid():
    time.sleep(1)
    return os.getpid()


def ends(process):
    """Return whether a process ends within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
        except OSError:
            return True
        if state.split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def perform(action, target):
    """Try an action on a file, a folder or a port; return its result, or the name of
    its error."""
    try:
        if action == "read":
            return Path(target).read_text()
        if action == "list":
            return " ".join(sorted(path.name for path in Path(target).iterdir()))
        if action == "write":
            return str(Path(target).write_text("new"))
        port = int(Path(target).name)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return "connected"
    except OSError as error:
        return type(error).__name__
