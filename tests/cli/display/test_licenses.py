"""Warnings about licenses on stderr."""

from dataclasses import replace

import pytest

from rsft.cli.display.console import warn_about_licenses
from rsft.models.bundle.bundle import Bundle, source_license


@pytest.fixture
def restricted(run, tmp_path):
    """Bundle of a backbone with two restrictions, trained on data with an unknown
    license."""
    licenses = (
        source_license("backbone", "vit", "DINOv3 License"),
        source_license("data", "bars", "unknown"),
    )
    replace(Bundle.load(run), licenses=licenses).save(tmp_path / "bundle")
    return tmp_path / "bundle"


WARNING = (
    "warning: licenses restrict the use of this bundle: no-military, no-weapons,"
    " no-nuclear, no-espionage (backbone vit); see `rsft bundle show`\n"
)


def test_warning_is_one_line_on_stderr(restricted, capsys):
    warn_about_licenses(restricted)
    assert capsys.readouterr() == ("", WARNING)


@pytest.mark.slow
def test_predict_warns_about_restrictions_alone(restricted, run, root, rsft):
    chips = next((root / "chips/val").iterdir())
    code, printed = rsft(
        "predict", restricted, chips, "-o", "restricted.csv", "--engine", "torch"
    )
    assert code == 0 and printed.count("warning:") == 1 and WARNING in printed
    code, printed = rsft("predict", run, chips, "-o", "free.csv", "--engine", "torch")
    assert code == 0 and "warning:" not in printed
