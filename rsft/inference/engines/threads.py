"""The number of threads of engines that run without PyTorch."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def engine_threads() -> int:
    """Return the number of threads with which an engine computes: that of PyTorch, if this process has imported it.

    Otherwise it is `OMP_NUM_THREADS`, or the number of physical cores that the process may use, as in PyTorch.
    """
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    limit = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    return max(1, int(limit[1])) if limit else _physical_cores()


def _physical_cores() -> int:
    """Return the number of usable cores; two hardware threads of a core count once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for number in usable:
        siblings = str(number)
        with suppress(OSError):
            siblings = Path(_TOPOLOGY.format(number)).read_text().strip()
        cores.add(siblings)
    return max(1, len(cores))
