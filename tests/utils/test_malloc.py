"""Freed memory that stays in the process."""

import subprocess
import sys

import pytest

from rsft.utils import malloc
from rsft.utils.malloc import keep_freed_memory

PASSES = """
import resource, sys, threading, torch
from rsft.utils.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def layers():
    [torch.ones(4_500_000) for _ in range(4)]
def count():
    [layers() for _ in range(6)]  # the heap has taken its shape
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [layers() for _ in range(6)]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[2] == "thread":
    thread = threading.Thread(target=count)
    thread.start(), thread.join()
else:
    count()
"""


def faults(word, where):
    return int(subprocess.check_output([sys.executable, "-c", PASSES, word, where]))


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of glibc")
def test_blocks_are_not_faulted_in_again(where):
    assert faults("keep", where) < 0.3 * faults("let go", where)


def test_elsewhere_nothing_is_told(monkeypatch):
    monkeypatch.setattr(malloc.sys, "platform", "win32")
    assert not keep_freed_memory()
