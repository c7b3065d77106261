"""The benchmark of a whole job against the bare step: one small round, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.benchmarks.growth import run_job, write_chips
from tools.benchmarks.job import JOBS, SIDE, run_training, time_bare_steps


@pytest.mark.slow
def test_a_bare_step_takes_time() -> None:
    assert time_bare_steps(1) > 0


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_epoch_of_metalora_has_fewer_steps(tmp_path: Path) -> None:
    write_chips(tmp_path / "images", 400, SIDE)
    run_job(tmp_path, ("prepare", "folder", "images", "--root", "store"))
    rows = ("job, LoRA", "job, MetaLoRA, alternating")
    lora, meta = (run_training(tmp_path, row, (*JOBS[row], "train.epochs=2"), 1) for row in rows)
    assert (lora.steps, meta.steps) == (10, 9)
    assert lora.seconds > 0 and meta.seconds > 0
