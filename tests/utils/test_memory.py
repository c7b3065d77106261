"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

from rsft.utils import memory
from rsft.utils.memory import retain_freed_memory

SCRIPT = """
import resource, sys, threading, torch
from rsft.utils.memory import retain_freed_memory
if sys.argv[1] == "retain":
    assert retain_freed_memory()
def layers():
    [torch.ones(4_500_000) for _ in range(4)]
def count():
    [layers() for _ in range(6)]  # until the heap has its final size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [layers() for _ in range(6)]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
count()
thread = threading.Thread(target=count)
thread.start(), thread.join()
"""


def count_page_faults(mode):
    """Return the page faults of the main thread and of another one."""
    return map(
        int, subprocess.check_output([sys.executable, "-c", SCRIPT, mode]).split()
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_memory_is_not_faulted_in_again():
    for retained, returned in zip(
        count_page_faults("retain"), count_page_faults("return"), strict=True
    ):
        assert retained < 0.3 * returned


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert not retain_freed_memory()
