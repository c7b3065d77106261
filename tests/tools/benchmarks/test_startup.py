"""The benchmark of the start of commands: a run of two jobs, imports by package, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.benchmarks.startup import Job, package_seconds, run_job, slowest_imports

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_job_runs_to_its_end_or_to_a_line(tmp_path: Path) -> None:
    clock, processor = run_job(Job(("--version",)), ROOT, tmp_path)
    assert clock > 0 and processor > 0
    assert run_job(Job(("recipes", "show", "quickstart"), stop_at="# Simulated"), ROOT, tmp_path)[0] > 0
    assert "rsft" in slowest_imports(Job(("--version",)), ROOT, tmp_path)


def test_seconds_of_a_package_are_those_of_its_modules() -> None:
    log = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       500 |       1500 |   torch.nn\n"
        "import time:   1000000 |    2000000 | torch\n"
        "a line of the command\n"
        "import time:       250 |        250 | timm\n"
    )
    assert package_seconds(log) == {"torch": pytest.approx(1.0005), "timm": pytest.approx(0.00025)}
