"""Start Ray quietly, on this machine or on a cluster."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rsft.errors import RequestError
from rsft.utils.dependencies import disable_telemetry
from rsft.utils.ray_cluster.watcher import processes_end_with_this_one

_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # rsft prints its own table
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_worker_niceness": "0",  # workers get the priority of the command
    "RAY_worker_register_timeout_seconds": (
        "600"
    ),  # processes start slowly on a busy machine
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must end the command
}

_CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # works on Linux too


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Start Ray for the duration of a `with` block.

    It also stops when this process ends for any reason.

    The address is that of a cluster; None is this machine, where Ray listens on the
    loopback interface only.

    Yields:
        None. Within the block, SIGTERM raises `SystemExit`.

    Raises:
        RequestError: no cluster answers at the address, or Ray does not start in time.
    """
    os.environ |= _SETTINGS
    disable_telemetry("ray")
    import ray
    from ray._private import ray_constants

    # Ray on one machine listens on the loopback interface only, as it does by default
    # on macOS.
    os.environ[_CLUSTER_VARIABLE] = str(int(address is not None))  # for its processes
    ray_constants.ENABLE_RAY_CLUSTER = (
        address is not None
    )  # for this process, which may have imported Ray earlier
    handler = signal.getsignal(signal.SIGTERM)
    with processes_end_with_this_one():
        try:
            ray.init(
                address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (
            Exception
        ) as error:  # Ray raises plain exceptions, such as after a timeout
            if address:
                hint = "start the cluster, or leave the address out"
            else:
                hint = "wait until the machine is less busy"
            raise RequestError(
                f"Ray does not start: {error}", address or "", hint
            ) from error
        # Ray's own handler prints the stack of the process and aborts
        _handle_sigterm(lambda number, frame: sys.exit(128 + number))
        try:
            yield
        finally:
            ray.shutdown()
            _handle_sigterm(handler)


def _handle_sigterm(handler: Any) -> None:
    with suppress(ValueError):  # only the main thread handles signals
        signal.signal(signal.SIGTERM, handler)
