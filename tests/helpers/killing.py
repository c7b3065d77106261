"""A process that is killed at a moment of the test's choice."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(target: Callable[..., object], *arguments: object) -> None:
    """Run it in a process that ends by SIGKILL, its own."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL


def die_at(place: object, name: str, call: int = 1, after: bool = False) -> None:
    """In the process to be killed: let the `call`-th call of `place.name` be its last act, done only if `after`."""
    real, calls = getattr(place, name), 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            die()
        result = real(*arguments, **options)
        if calls == call:
            die()
        return result

    setattr(place, name, counted)
