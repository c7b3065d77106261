"""Every part of the GPU check runs on a CPU with tiny networks."""

import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.plugins import needs_plugin
from tools.gpu_check import __main__ as program
from tools.gpu_check.rows import EqualityRow


def run(*arguments):
    app = program.typer.Typer()
    app.command()(program.main)
    return CliRunner().invoke(app, ["--device", "cpu", "--tiny", *map(str, arguments)])


def rows_of(text, section):
    """Return the cells of the table of a section, without its header."""
    lines = text.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]


@needs_plugin("demo")
@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_device_equals_the_cpu_and_trains_the_quick_start(tmp_path):
    result = run(
        "--skip", "timing", "--skip", "prediction", "--out", tmp_path / "gpu.md"
    )
    text = (tmp_path / "gpu.md").read_text()
    assert result.exit_code == 0, result.output
    checks = {
        name: outcome
        for name, *_, outcome in rows_of(text, "Equality with the CPU in float32")
    }
    unsupported = {
        name
        for name, outcome in checks.items()
        if outcome == "not run: rsft uses float16 on a GPU only"
    }
    assert len(checks) == 26 and unsupported == {
        x for x in checks if x.endswith((" fp16", " float16"))
    }
    assert {checks[name] for name in checks.keys() - unsupported} == {"pass"}
    [[name, *numbers]] = rows_of(text, "Quick start")
    assert name == "recipes/quickstart.yaml" and all(
        float(number) >= 0 for number in numbers
    )
    assert "## Training\n\nnot run: --skip timing" in text and torch.__version__ in text


@pytest.mark.exhaustive
@pytest.mark.slow
def test_all_steps_are_timed_and_a_missing_compiler_is_named(monkeypatch):
    def compile_nothing(*_, **__):
        raise RuntimeError("no C++ compiler\nsecond line")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    result = run("--skip", "equality", "--skip", "quickstart")
    assert result.exit_code == 0, result.output
    training = rows_of(result.output, "Training")
    prediction = rows_of(result.output, "Prediction")
    rates = {
        name.partition(", batch 4, ")[2]: rate
        for name, rate, *_ in training + prediction
    }
    not_run = {
        name
        for name, rate in rates.items()
        if rate == "not run: RuntimeError no C++ compiler"
    }
    assert len(rates) == 10 and not_run == {
        name for name in rates if "compiled" in name
    }
    assert all(
        float(rates[name].replace(",", "")) > 0 for name in rates.keys() - not_run
    )


def test_a_failed_check_is_the_exit_code(monkeypatch):
    monkeypatch.setattr(
        program, "all_equality_rows", lambda work: [EqualityRow("output", 0.1, 0.2)]
    )
    result = run("--skip", "quickstart", "--skip", "timing", "--skip", "prediction")
    assert (
        result.exit_code == 1 and "| output | 0.1 | 2.0e-01 | FAIL |" in result.output
    )
