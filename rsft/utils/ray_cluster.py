"""Ray, started without a word, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rsft.errors import RequestError

_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the table is ours
    "RAY_USAGE_STATS_ENABLED": "0",  # it would call home
    "RAY_worker_niceness": "0",  # workers are as nice as the command
    "RAY_worker_register_timeout_seconds": "600",  # a busy machine starts its processes slowly
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command
}


def require(extra: str, *packages: str) -> None:
    """Whether what the job needs beside rsft's own dependencies is installed.

    Raises:
        RequestError: a package is missing.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise RequestError(f"this needs {', '.join(missing)}", fix=f"pip install 'rsft[{extra}]'")


@contextmanager
def started(address: str | None) -> Iterator[None]:
    """A cluster, or this machine where `address` is None; it goes with the block, and with this process, whatever ends
    it.

    Raises:
        RequestError: there is no cluster at the address.
    """
    os.environ |= _SETTINGS
    import ray

    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"Ray does not start: {error}", address or "", "start it there, or leave the address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
