"""The walls of the reader cell: what a process gives up for the rest of its life.

Landlock limits files and TCP, see https://docs.kernel.org/userspace-api/landlock.html;
seccomp denies the system calls that Landlock does not know, see seccomp(2). Both are
those of Linux. Elsewhere, the limit of memory is the only wall.
"""

import ctypes
import os
import platform
import stat
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from rsft.utils.cell.named import OFF
from rsft.utils.operating_system import limit_address_space

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446  # numbers of the system calls on all architectures
_SET_SECCOMP = 22  # options of prctl
_SET_NO_NEW_PRIVILEGES = 38
_FILTER_MODE = 2
_PATH_BENEATH = 1  # type of a rule
_ASK_VERSION = 1
_READ_FILE = 4
_READ = _READ_FILE | 8  # read a file, list a folder
_RIGHTS = (0, 13, 14, 15, 15, 16)
"""Number of the rights to files that each version of Landlock knows; the last one is
that of later versions."""
_ALL_TCP = 3  # bind and connect, since version 4
_ALL_SCOPES = 3  # abstract UNIX sockets and signals, since version 6

_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}
"""Column of the table below, number of the architecture, and that of its call clone."""
_DENIED = """
    socket 41 198
    socketpair 53 199
    connect 42 203
    bind 49 200
    listen 50 201
    accept 43 202
    accept4 288 242
    sendto 44 206
    sendmsg 46 211
    sendmmsg 307 269
    fork 57 -1
    vfork 58 -1
    execve 59 221
    execveat 322 281
    kill 62 129
    tkill 200 130
    tgkill 234 131
    rt_sigqueueinfo 129 138
    rt_tgsigqueueinfo 297 240
    pidfd_open 434 434
    pidfd_send_signal 424 424
    pidfd_getfd 438 438
    ptrace 101 117
    process_vm_readv 310 270
    process_vm_writev 311 271
    io_uring_setup 425 425
    bpf 321 280
    perf_event_open 298 241
    userfaultfd 323 282
    add_key 248 217
    request_key 249 218
    keyctl 250 219
    mount 165 40
    umount2 166 39
    pivot_root 155 41
    chroot 161 51
    unshare 272 97
    setns 308 268
    open_by_handle_at 304 265
    chmod 90 -1
    fchmod 91 52
    fchmodat 268 53
    fchmodat2 452 452
    chown 92 -1
    fchown 93 55
    lchown 94 -1
    fchownat 260 54
    utime 132 -1
    utimes 235 -1
    futimesat 261 -1
    utimensat 280 88
    setxattr 188 5
    lsetxattr 189 6
    fsetxattr 190 7
    removexattr 197 14
    lremovexattr 198 15
    fremovexattr 199 16
    truncate 76 45
    shmget 29 194
    msgget 68 186
    semget 64 190
    mq_open 240 180
    setpriority 141 140
"""
"""System calls that are refused, with their numbers on x86_64 and aarch64; -1 if there
is none."""
_NETWORK = ("socket", "connect", "bind", "sendto", "sendmsg", "sendmmsg")
"""System calls that a client of a server needs."""
_CLONE3 = 435
_THREAD = 0x10000  # flag of clone
_NOT_PERMITTED = 0x00050001  # return EPERM
_MISSING = 0x00050026  # return ENOSYS, after which the C library calls clone
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_X32 = 0x40000000  # a second set of system calls on x86_64


def landlock_version() -> int:
    """Return the version of Landlock in this kernel; 0 without it."""
    if sys.platform != "linux":
        return 0
    try:
        return _call("syscall", _CREATE_RULESET, None, 0, _ASK_VERSION)
    except (OSError, AttributeError):
        return 0


def describe_walls() -> str:
    """Return which walls stand on this machine, for people."""
    walls = []
    if not OFF:
        version = landlock_version()
        if version:
            walls.append(f"Landlock, version {version}")
        if sys.platform == "linux" and platform.machine() in _ARCHITECTURES:
            walls.append("seccomp")
    if sys.platform != "darwin":
        walls.append("limits of memory and time")
    return ", ".join(walls)


class Walls(NamedTuple):
    """What a cell may do.

    Attributes:
        readable: files and folders that it may read, with those of Python. Missing ones
            are skipped.
        memory: largest address space in bytes.
        connects: whether it may contact servers.
        writable: folders that it may write, such as one for copies of a database.
        hidden: modules that it cannot import, because they start slowly.
    """

    readable: tuple[Path, ...]
    memory: int
    connects: bool = False
    writable: tuple[Path, ...] = ()
    hidden: tuple[str, ...] = ()


def build_walls(walls: Walls) -> None:
    """Let this process read the given files, and do nothing else, for good.

    Call it before another thread starts: threads that run already stay outside.

    Raises:
        OSError: the kernel refuses a wall that it has.
    """
    limit_address_space(walls.memory)
    if sys.platform != "linux" or OFF:
        return
    import resource

    if not walls.writable:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call("prctl", _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _restrict_files(walls)
    _deny_calls(connects=walls.connects)


def _call(name: str, *values: bytes | int | None) -> int:
    """Call a function of the C library, such as syscall with the number of a call."""
    words = [ctypes.c_long(x) if isinstance(x, int) else x for x in values]
    result: int = getattr(ctypes.CDLL(None, use_errno=True), name)(*words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _restrict_files(walls: Walls) -> None:
    version = landlock_version()
    if not version:
        return
    rights = (1 << _RIGHTS[min(version, len(_RIGHTS) - 1)]) - 1
    connections = 0 if walls.connects or version < 4 else _ALL_TCP
    scopes = 0 if version < 6 else _ALL_SCOPES
    data = struct.pack("3Q", rights, connections, scopes)  # any version takes zeros
    ruleset = _call("syscall", _CREATE_RULESET, data, len(data), 0)
    try:
        for path in walls.readable:
            _allow(ruleset, path, _READ)
        for path in walls.writable:
            _allow(ruleset, path, rights)
        _call("syscall", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):  # missing, not visible to this user, or no path
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(target).st_mode)
        rule = struct.pack("=Qi", rights if is_folder else _READ_FILE, target)
        _call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(target)


def _deny_calls(*, connects: bool) -> None:
    """Let the kernel refuse the calls of the table, and any new process."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if not architecture:
        return
    column, machine, clone = architecture
    load, jump_equal, jump_bits, jump_from, give = 0x20, 0x15, 0x45, 0x35, 0x06
    program = [
        (load, 0, 0, 4),  # architecture
        (jump_equal, 1, 0, machine),
        (give, 0, 0, _KILL),
        (load, 0, 0, 0),  # number of the call
        (jump_from, 0, 1, _X32),
        (give, 0, 0, _NOT_PERMITTED),
        (jump_equal, 0, 1, _CLONE3),
        (give, 0, 0, _MISSING),
    ]
    for line in _DENIED.strip().splitlines():
        name, *numbers = line.split()
        number = int(numbers[column])
        if number >= 0 and not (connects and name in _NETWORK):
            program += [(jump_equal, 0, 1, number), (give, 0, 0, _NOT_PERMITTED)]
    program += [
        (jump_equal, 0, 3, clone),
        (load, 0, 0, 16),  # flags of clone: threads are no new process
        (jump_bits, 1, 0, _THREAD),
        (give, 0, 0, _NOT_PERMITTED),
        (give, 0, 0, _ALLOW),
    ]
    data = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(data, len(data))
    filters = struct.pack("HP", len(program), ctypes.addressof(buffer))
    _call("prctl", _SET_SECCOMP, _FILTER_MODE, filters, 0, 0)
