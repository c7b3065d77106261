"""Processes that kill themselves at a chosen moment, for tests of what a crash leaves
behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable


def kill_this_process(*_: object, **__: object) -> None:
    """Send SIGKILL to this process; the arguments are ignored, so that it can replace
    any function."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(
    target: Callable[..., object], *arguments: object, timeout_s: float = 120
) -> None:
    """Run a function in a process, and assert that SIGKILL ended it."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(timeout_s)
    exitcode = process.exitcode  # None: it runs still
    process.kill()  # else Python waits for it at its end
    assert exitcode == -signal.SIGKILL


def kill_at_call(owner: object, name: str, call: int = 1, after: bool = False) -> None:
    """Replace `owner.name` so that its `call`-th call kills this process, before the
    call or `after` it."""
    original = getattr(owner, name)
    calls = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            kill_this_process()
        result = original(*arguments, **options)
        if calls == call:
            kill_this_process()
        return result

    setattr(owner, name, counted)
