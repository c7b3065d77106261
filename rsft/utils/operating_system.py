"""What differs between Windows, macOS and Linux: files, processors and memory.

All branches on the platform are here, in `rsft.utils.cell.walls` and in the
allocators of `rsft.peft`.
"""

import os
import platform
import re
import select
import shutil
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

from rsft.errors import RequestError

_NOT_ON_WINDOWS = (
    re.compile(  # names that Windows changes, refuses or opens as a device
        r'[<>:"|?*\x00-\x1f]|[ .]$'
        r"|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³])"
        r" *(\.|$)",
        re.IGNORECASE,
    )
)
_LONGEST_PATH = 259  # characters on Windows, unless long paths are enabled
_PROCESSORS = Path("/proc/cpuinfo")
_AMD_DEVICES = ("/dev/kfd", "/dev/dxg")  # the second one in Windows' Linux
_NVIDIA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_PATIENCE_S = (
    2.0  # virus scanners and the search index of Windows open a new file for a moment
)


def describe_name_fault(name: str) -> str:
    """Return why this system cannot hold a file or folder of a name; "" if it can."""
    if is_windows() and _NOT_ON_WINDOWS.search(name):
        return f"Windows cannot hold the name {name!r}"
    return ""


def describe_path_fault(path: str) -> tuple[str, str] | None:
    """Return why Windows does not open a path, and a hint; None elsewhere."""
    if not is_windows():
        return None
    if len(str(Path(path).absolute())) > _LONGEST_PATH:
        return (
            (
                f"the path is longer than the {_LONGEST_PATH} characters that Windows"
                " accepts"
            ),
            (
                "choose a shorter folder, such as C:\\data, or enable long"
                " paths in Windows"
            ),
        )
    for part in Path(path).parts[1:]:
        fault = describe_name_fault(part)
        if fault:
            return fault, "choose another name"
    return None


def path_to_text(path: object) -> str:
    """Return a path as text that every file format can store.

    Bytes of a name that are not UTF-8 become escapes.
    """
    return str(path).encode("utf-8", "backslashreplace").decode()


def unique_name(name: str) -> str:
    """Return a text that is the same for all names of one file on this system."""
    if sys.platform in ("win32", "darwin"):
        return fold_name(name)
    return name


def fold_name(name: str) -> str:
    """Return a text that is the same for all names that are one file on some system."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def is_windows() -> bool:
    """Return whether this is Windows."""
    return sys.platform == "win32"


def replace_path(source: Path, target: Path) -> None:
    """Rename a file or folder; on Windows, wait until other programs closed it.

    Raises:
        OSError: the rename failed.
    """
    limit = time.monotonic() + _PATIENCE_S
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if not is_windows() or time.monotonic() > limit:
                raise
            time.sleep(0.05)


def link_file(link: Path, target: Path) -> None:
    """Make a symbolic link; where Windows does not permit that, a hard link to a file.

    Raises:
        OSError: neither is possible.
    """
    try:
        link.symlink_to(target)
    except OSError:
        if not is_windows():
            raise
        link.hardlink_to(target)


def sync_path(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk."""
    if is_windows() and path.is_dir():
        return  # Windows cannot open folders
    # Windows only syncs files open for writing
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all() -> None:
    """Write all files to the disk; not on Windows."""
    if hasattr(os, "sync"):
        os.sync()


def free_disk(path: Path) -> int:
    """Return the free bytes where a file or folder is, or where it would be made."""
    path = path.absolute()
    existing = next(x for x in (path, *path.parents) if x.exists())
    return shutil.disk_usage(existing).free


def stop_this_process() -> None:
    """Stop this process from any thread; the main one handles SIGTERM."""
    main = threading.main_thread().ident
    if sys.platform == "win32" or main is None:
        signal.raise_signal(signal.SIGTERM)
    else:
        signal.pthread_kill(main, signal.SIGTERM)


def available_cores() -> list[int]:
    """Return the numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def has_gpu_driver() -> bool:
    """Return whether a driver of Nvidia or AMD is here.

    Without one, PyTorch finds no GPU. To ask PyTorch takes seconds, for its import.
    """
    import ctypes

    if any(map(os.path.exists, _AMD_DEVICES)):
        return True
    for library in _NVIDIA_DRIVERS:
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def processor_name() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        text = _PROCESSORS.read_text("utf-8", "replace")
        match = re.search(r"^model name[^:\n]*:(.*)$", text, re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for products in bfloat16."""
    with suppress(OSError):
        text = _PROCESSORS.read_text("utf-8", "replace")
        return re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", text) is not None
    return False


def peak_memory_bytes() -> float:
    """Return the largest resident memory of this process so far."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset)
    import resource

    return float(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
    )


def limit_address_space(size: int) -> bool:
    """Limit the address space of this process; return False where it cannot be."""
    if sys.platform == "win32":
        return False
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ValueError, OSError):  # macOS
        return False
    return True


def watch_memory(process: Popen[bytes], size: int) -> None:
    """Kill a process that has more than `size` bytes of resident memory."""
    if sys.platform == "linux":
        return
    import psutil

    with suppress(psutil.Error):
        watched = psutil.Process(process.pid)
        # on Windows, the Python of an environment starts another process
        while process.poll() is None:
            family = (watched, *watched.children(recursive=True))
            if sum(x.memory_info().rss for x in family) > size:
                process.kill()
            time.sleep(0.02)


def limits_file_size() -> bool:
    """Return whether this process can only write files up to a size (`ulimit -f`)."""
    if sys.platform == "win32":
        return False
    import resource

    return bool(resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY)


def refuse_folder(error: OSError) -> None:
    """Raise an error for a folder that cannot be listed, for `os.walk`.

    Raises:
        RequestError: always, except for lost+found, which belongs to the file system.
    """
    if Path(error.filename).name == "lost+found":
        return
    raise RequestError(
        f"the folder cannot be read: {error.strerror}",
        error.filename,
        "change its permissions, or give the folders below that can be read",
    )


def wait_for_end(pipe: int) -> bool:
    """Wait until the other end of a pipe is closed.

    Args:
        pipe: descriptor of the end from which this process reads.

    Returns:
        Whether the system can tell; Windows cannot.
    """
    if sys.platform == "win32" or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(pipe, 0)  # only the end of the pipe is an event
    poll.poll()
    return True


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the paths of the files in a folder and its subfolders, as texts.

    Linked folders are followed. A link is left out if it leads above `folder`, where
    the walk would not end, or to a folder whose files come anyway.

    Raises:
        RequestError: a folder cannot be read.
    """
    visited = [Path(os.path.realpath(folder))]
    for parent, folders, names in os.walk(
        folder, onerror=refuse_folder, followlinks=True
    ):
        folders[:] = [
            name
            for name in sorted(folders)
            if _is_new_folder(Path(parent, name), visited)
        ]
        yield from (str(Path(parent, name)) for name in names)


def _is_new_folder(path: Path, visited: list[Path]) -> bool:
    """Return whether a walk should enter a folder, and remember a linked one."""
    if not path.is_symlink():
        return True
    target = Path(os.path.realpath(path))
    is_new = not visited[0].is_relative_to(target) and not any(
        map(target.is_relative_to, visited)
    )
    if is_new:
        visited.append(target)
    return is_new


def path_order(path: str) -> str:
    """Return a key that sorts texts as `Path` sorts paths: by folder, then by name."""
    return path.replace(os.sep, "\0")
