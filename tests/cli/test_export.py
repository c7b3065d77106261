"""`rsft export`: what it refuses, and the file that it writes."""

import pytest

from rsft.errors import WeightsError
from rsft.inference.engines.base import FORMATS
from rsft.inference.engines.export_metadata import read_export_metadata
from rsft.models.bundle.bundle import Bundle
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin

WRONG = [
    (("--format", "onnx", "--precision", "bf16"), "no bf16 for onnx"),
    pytest.param(
        ("--format", "timm", "--precision", "int8"),
        "no int8 for timm",
        marks=needs_plugin("exports"),
    ),
    (("--format", "tflite"), f"choose from {', '.join(FORMATS)}"),
    (("--format", "onnx", "--data", "absent"), "is not a chip store"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_requests_are_refused(rsft, run, tmp_path, options, message):
    code, printed = rsft("export", run, "-o", tmp_path / "out", *options)
    assert (
        code == 2
        and message in printed
        and "Traceback" not in printed
        and not list(tmp_path.iterdir())
    )


@pytest.mark.exhaustive
def test_the_command_writes_an_onnx_file(rsft, run, root, tmp_path):
    code, printed = rsft("export", run, "--format", "onnx", "-o", tmp_path / "out")
    assert (
        code == 0
        and f"18 chips of {root}" in printed
        and "logits differ from PyTorch's by" in printed
    )
    metadata = read_export_metadata(tmp_path / "out")
    assert (
        metadata["classes"] == ["flat", "slanted", "steep"]
        and metadata["bundle_sha256"] == Bundle.load(run).sha256
    )
    assert metadata["contract"]["size"] == 32 and metadata["checked"]["largest"] < 1e-3
    code, printed = rsft("export", run, "--format", "onnx", "-o", tmp_path / "out")
    assert code == 2 and "--overwrite" in printed
    (tmp_path / "out/model.onnx").write_bytes(b"altered")
    with pytest.raises(WeightsError, match=mentions("model.onnx", "altered")):
        read_export_metadata(tmp_path / "out")


def test_options_that_are_left_out(rsft, run, monkeypatch):
    given = []
    monkeypatch.setattr(
        "rsft.inference.export.export.export_bundle",
        lambda *arguments, **options: given.append((arguments, options)) or 1 / 0,
    )
    rsft("export", run, "--format", "timm")
    ((_, name, precision, out), options) = given[0]
    assert (name, precision, out) == ("timm", "fp32", None)
    assert (options["max_loss"], options["whole"], options["overwrite"]) == (
        0.5,
        False,
        False,
    )
