"""The benchmark of the calibration: it measures both units, and finds the same ships in both."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.sentinel1 import write_product
from tools.benchmarks.calibration import main


def test_both_units_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    water = np.random.default_rng(0).gamma(4, 0.25, (300, 400)) ** 0.5 * 90
    water[150:158, 200:210] = 4000
    safe = write_product(tmp_path, {"vv": water.astype(np.uint16)})
    monkeypatch.setattr(sys, "argv", ["calibration", str(safe), "--rounds", "1"])
    main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    cells = {row[1]: row[3] for row in rows if len(row) > 3 and row[1] in ("amplitude", "sigma0")}
    assert cells == {"amplitude": "1", "sigma0": "1"}
