"""The processes that read chips."""

from collections import namedtuple

import pytest
import torch

from rsft.training import assembly
from rsft.training.assembly import worker_count

pytestmark = pytest.mark.slow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MB = 2**20


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(assembly, "available_cores", lambda: [0, 1])


def test_not_more_processes_read_chips_than_there_are_cores():
    assert [worker_count(count, CPU, 1, MB) for count in (0, 2, 8)] == [0, 2, 2]


@pytest.mark.parametrize(
    ("device", "devices", "start", "cores", "free", "expected"),
    [
        (CUDA, 1, "fork", 16, 1024, 8),
        (CUDA, 1, "fork", 4, 1024, 3),
        (CUDA, 4, "fork", 16, 1024, 3),
        (CUDA, 4, "fork", 2, 1024, 0),
        (CUDA, 1, "fork", 16, 64, 1),
        (CUDA, 1, "fork", 16, 8, 0),
        (CUDA, 1, "spawn", 16, 1024, 0),
        (CPU, 1, "fork", 16, 1024, 0),
    ],
)
def test_auto_fits_device_cores_and_shared_memory(
    monkeypatch, device, devices, start, cores, free, expected
):
    usage = namedtuple("Usage", "free")(free * MB)
    monkeypatch.setattr(assembly, "available_cores", lambda: range(cores))
    monkeypatch.setattr(assembly, "get_start_method", lambda: start)
    monkeypatch.setattr(assembly.shutil, "disk_usage", lambda path: usage)
    assert worker_count("auto", device, devices, 9 * MB) == expected
