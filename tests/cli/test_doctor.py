"""`rsft doctor`: a table of checks, and the exit code."""

import pytest
import typer

from rsft.cli import doctor
from rsft.cli.environment_report import EnvironmentCheck

ROWS = [
    EnvironmentCheck("rsft", "0.2.0"),
    EnvironmentCheck("memory", "1 GB", "warn", "close [other] programs"),
]


def test_warnings_end_with_exit_code_0(capsys):
    doctor.show_environment(ROWS)
    printed = capsys.readouterr().out
    assert "memory" in printed and "close [other] programs" in printed


def test_a_failed_check_ends_with_exit_code_1(capsys):
    failed = EnvironmentCheck("torch", "missing", "fail", "install it")
    with pytest.raises(typer.Exit) as stop:
        doctor.show_environment([*ROWS, failed])
    assert stop.value.exit_code == 1 and "install it" in capsys.readouterr().out


def test_the_command_prints_the_report(rsft, monkeypatch):
    monkeypatch.setattr("rsft.cli.environment_report.environment_report", lambda: ROWS)
    code, printed = rsft("doctor")
    assert code == 0 and printed.index("rsft") < printed.index("memory")
