"""A speedup is a ratio of durations; what was measured once is kept."""

import time
from pathlib import Path

import pytest
import torch

from rsft.utils import operating_system, speedup
from rsft.utils.speedup import (
    has_instructions,
    measure_once,
    measure_speedup,
    operations_per_second,
    product_speedup,
)


@pytest.mark.slow
def test_speedup_is_a_ratio_of_durations():
    assert measure_speedup(
        lambda: time.sleep(0.02), lambda: time.sleep(0.005)
    ) == pytest.approx(4, rel=0.5)


def test_the_least_disturbed_calls_count(monkeypatch):
    # three calls, and no limit of their time
    monkeypatch.setattr(speedup, "_MOST_CALLS", 3)
    monkeypatch.setattr(speedup, "_LIMIT_S", 99)
    ticks = iter([0, 4, 4, 5, 5, 13, 13, 23, 23, 31, 31, 33])
    clock = ticks.__next__
    assert measure_speedup(lambda: 0, lambda: 0, clock=clock) == 4


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """Return a function that chooses between a and b, and the folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda measured: measure_once("letter", ["a", "b"], lambda: measured), (
        tmp_path / "rsft"
    )


def test_a_choice_is_kept_for_a_processor_and_a_version(choose, monkeypatch):
    choose, folder = choose
    assert [choose("b"), choose("a")] == ["b", "b"]
    monkeypatch.setattr(speedup, "processor_name", lambda: "another")
    assert [choose("a"), choose("b")] == ["a", "a"]
    monkeypatch.setattr(torch, "__version__", "99")
    assert choose("b") == "b"
    assert len(list(folder.glob("letter-*.txt"))) == 3


@pytest.mark.parametrize("content", [b"", b"b\x00", b"\xff\xfe", b"c", b"b" * 10**6])
def test_a_damaged_choice_is_measured_anew(choose, content):
    choose, folder = choose
    choose("a")
    (file,) = folder.glob("letter-*.txt")
    file.write_bytes(content)
    assert [choose("b"), choose("a")] == ["b", "b"]
    file.unlink()
    file.mkdir()
    assert choose("a") == "a"


def test_without_a_home_each_process_measures(choose, monkeypatch, tmp_path):
    choose, _ = choose

    def fail(*_):
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "expanduser", fail)
    monkeypatch.chdir(tmp_path)
    assert [choose("b"), choose("a")] == ["b", "a"]
    assert not list(tmp_path.iterdir())


def test_without_a_folder_each_process_measures(choose):
    choose, folder = choose
    folder.write_text("no folder")
    assert [choose("b"), choose("a")] == ["b", "a"]


def test_a_product_is_compared_with_the_same_one_in_float32(monkeypatch):
    monkeypatch.setattr(speedup, "measure_speedup", lambda *works: [x() for x in works])
    baseline, candidate = product_speedup(torch.device("cpu"), torch.float64)
    assert (baseline.dtype, candidate.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(baseline.double(), candidate, rtol=1e-4, atol=1e-3)


def test_operations_per_second_are_those_of_a_processor():
    assert 1e8 < operations_per_second(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.parametrize(
    ("capability", "names"),
    [((6, 1), []), ((7, 5), ["fp16"]), ((9, 0), ["bf16", "fp16"])],
)
def test_instructions_of_a_gpu(monkeypatch, capability, names):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert [
        x for x in ("bf16", "fp16") if has_instructions(x, torch.device("cuda"))
    ] == names


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx2 amx_bf16", True), ("avx512f avx512_vbmi", False)]
)
def test_instructions_of_a_processor(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    # the processor of another machine
    monkeypatch.setattr(operating_system, "_PROCESSORS", tmp_path / "cpuinfo")
    assert has_instructions("bf16", torch.device("cpu")) == expected
    assert not has_instructions("fp16", torch.device("cpu"))
