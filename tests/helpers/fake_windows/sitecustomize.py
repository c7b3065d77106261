"""Make every process behave to rsft as on Windows; Python imports this file at the
start of each process.

Modules of rsft see the platform win32: modules and functions that Windows lacks are
missing. Other packages, which have branches of their own for Windows, see the real
system. All processes start with `spawn`. A file that is open or mapped into memory is
neither replaced, renamed nor removed, and names that Windows refuses cannot be written.
Text files are opened with a named encoding.

RSFT_FAULTS is a file to which the violations are appended.
"""

import builtins
import errno
import multiprocessing
import os
import sys
import threading
import types
import warnings
from contextlib import suppress

MISSING_MODULES = {
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}
MISSING = {
    "os": {
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "O_PATH",
        "WNOHANG",
        "chown",
        "chroot",
        "confstr",
        "copy_file_range",
        "fchmod",
        "fork",
        "forkpty",
        "fwalk",
        "getegid",
        "geteuid",
        "getgid",
        "getloadavg",
        "getpgid",
        "getpriority",
        "getuid",
        "initgroups",
        "killpg",
        "lockf",
        "mkfifo",
        "nice",
        "openpty",
        "posix_fadvise",
        "posix_fallocate",
        "pread",
        "preadv",
        "pwrite",
        "pwritev",
        "register_at_fork",
        "sched_getaffinity",
        "sched_setaffinity",
        "sendfile",
        "setpgid",
        "setsid",
        "statvfs",
        "sync",
        "sysconf",
        "uname",
        "wait",
        "waitid",
        "wait3",
        "wait4",
        "getxattr",
        "setxattr",
    },
    "signal": {
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGQUIT",
        "SIGPIPE",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCONT",
        "SIGSTOP",
        "alarm",
        "setitimer",
        "pause",
        "pthread_kill",
        "pthread_sigmask",
        "siginterrupt",
        "sigwait",
        "set_wakeup",
    },
    "time": {"tzset", "clock_gettime", "pthread_getcpuclockid"},
    "socket": {"AF_UNIX"},
    "select": {"poll", "epoll"},
    "mmap": {"MAP_PRIVATE", "MAP_ANONYMOUS", "MAP_SHARED"},
    "sys": set(),
}
CHANGED = {"os": {"name": "nt"}, "sys": {"platform": "win32"}}
_NAMES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)),
}


class _OnWindows(types.ModuleType):
    """A module as Windows has it. Changes reach the real module."""

    def __init__(self, module):
        object.__setattr__(self, "_module", module)

    def __getattribute__(self, name):
        module = object.__getattribute__(self, "_module")
        if name in MISSING[module.__name__]:
            raise AttributeError(
                f"module {module.__name__!r} has no attribute {name!r} on Windows"
            )
        return CHANGED.get(module.__name__, {}).get(name, getattr(module, name))

    def __setattr__(self, name, value):
        setattr(object.__getattribute__(self, "_module"), name, value)

    def __delattr__(self, name):
        delattr(object.__getattribute__(self, "_module"), name)


_import = builtins.__import__
_modules = {}


def _import_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    caller = (globals or {}).get("__name__", "")
    if level or not (caller == "rsft" or caller.startswith("rsft.")):
        return _import(name, globals, locals, fromlist, level)
    if name in MISSING_MODULES:
        raise ImportError(f"No module named {name!r} on Windows")
    module = _import(name, globals, locals, fromlist, level)
    if module.__name__ in MISSING:
        return _modules.setdefault(module.__name__, _OnWindows(module))
    return module


def _report(text):
    with open(os.environ["RSFT_FAULTS"], "a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def _is_open(path):
    """Return whether this process has a file, or a file below a folder, open or mapped
    into memory."""
    path = os.path.realpath(path)
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        names += [
            line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count("/")
        ]
    return any(name == path or name.startswith(f"{path}/") for name in names)


_state = threading.local()


def _check_name(path):
    for part in path.split("/"):
        stem = part.partition(".")[0].rstrip().lower()
        if (
            stem in _NAMES
            or set(part) & set('<>:"|?*')
            or (part.strip(".") and part[-1:] in (".", " "))
        ):
            _report(f"name {path}")
            raise OSError(
                errno.EINVAL,
                "The filename, directory name, or volume label syntax is incorrect",
                path,
            )


def _audit(event, arguments):
    if event not in (
        "open",
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
    ) or getattr(_state, "busy", False):
        return
    _state.busy = True
    try:
        paths = [
            os.fsdecode(path)
            for path in arguments[:2]
            if isinstance(path, str | bytes | os.PathLike)
        ]
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if paths and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                (
                    _check_name(paths[0])
                    if not paths[0].startswith(("/proc/", "/dev/", "/sys/"))
                    else None
                )
        elif event == "os.mkdir":
            _check_name(paths[0])
        elif event in ("os.rename", "os.remove", "os.rmdir"):
            dir_fd = arguments[-1] if isinstance(arguments[-1], int) else -1
            for path in paths[: 2 if event == "os.rename" else 1]:
                base = (
                    path
                    if dir_fd == -1
                    else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
                )
                is_ok = (
                    event == "os.rmdir" and os.path.isdir(base) and not os.listdir(base)
                )
                if os.path.exists(base) and not is_ok and _is_open(base):
                    # filelock's release removes them
                    if not path.endswith("lock") and event != "os.rmdir":
                        _report(f"{event} of an open file: {' -> '.join(paths)}")
                    raise PermissionError(
                        errno.EACCES, "The process cannot access the file", path
                    )
    finally:
        _state.busy = False


def _report_peak_memory():
    """Give psutil the number that it has on Windows."""
    import psutil

    memory_info = psutil.Process.memory_info

    def with_peak(process):
        resident = memory_info(process).rss
        return types.SimpleNamespace(rss=resident, peak_wset=resident)

    psutil.Process.memory_info = with_peak


def _remove_released_locks():
    """Remove the file of a lock when it is released, as filelock does on Windows."""
    from filelock import UnixFileLock

    release = UnixFileLock._release

    def release_and_remove(lock):
        release(lock)
        with suppress(OSError):
            os.unlink(lock.lock_file)

    UnixFileLock._release = release_and_remove


if "RSFT_FAULTS" in os.environ:
    _remove_released_locks(), _report_peak_memory()
    builtins.__import__ = _import_on_windows
    multiprocessing.set_start_method("spawn")
    warnings.filterwarnings("ignore", category=EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module=r"rsft(\.|$)")
    sys.addaudithook(_audit)
