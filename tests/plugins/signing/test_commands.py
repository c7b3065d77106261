"""`rsft bundle sign` and `rsft bundle verify-signature`."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("model_signing")

from cryptography.hazmat.primitives.asymmetric import ec

from rsft.plugins.signing.signature import (
    SIGNATURE_FILE,
    check_signature,
)
from tests.plugins.signing.conftest import write_keys


def test_commands(rsft, signed, keys, tmp_path):
    code, printed = rsft("bundle", "sign", signed, "--key", keys[0])
    assert code == 0 and SIGNATURE_FILE in printed
    words = ("bundle", "verify-signature", signed, "--key")
    code, printed = rsft(*words, keys[1], "--json")
    assert code == 0 and json.loads(printed) == [check_signature(signed, keys[1])]
    code, printed = rsft(*words, keys[1])
    assert code == 0 and "signed_at" in printed
    other = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    code, printed = rsft(*words, other[1])
    assert code == 1 and "signed with another key" in printed
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    code, printed = rsft(*words, keys[1], "--not-before", tomorrow)
    assert code == 1 and "it was signed at" in printed


@pytest.mark.exhaustive
def test_an_export_is_signed_and_verified(rsft, signed, keys):
    """An export names the hash of its bundle, which anybody can write."""
    rsft("export", signed, "--format", "onnx", "-o", "onnx")
    words = ("bundle", "verify-signature", signed, "onnx", "--key", keys[1])
    code, printed = rsft(*words)
    assert code == 1 and "the folder is not signed" in printed
    rsft("bundle", "sign", "onnx", "--key", keys[0])
    code, printed = rsft(*words, "--json")
    assert code == 0, printed
    bundle, export = json.loads(printed)
    assert (bundle["name"], export["folder"]) == (export["name"], "onnx")
    metadata = json.loads(Path("onnx/export.json").read_text())
    Path("onnx/model.onnx").write_bytes(Path("onnx/model.onnx").read_bytes() + b"\0")
    metadata["files"]["model.onnx"] = hashlib.sha256(
        Path("onnx/model.onnx").read_bytes()
    ).hexdigest()
    code, printed = rsft("bundle", "sign", "onnx", "--key", keys[0])
    assert code == 1 and "altered" in printed
    Path("onnx/export.json").write_text(json.dumps(metadata))
    code, printed = rsft(*words)
    assert (
        code == 1
        and "export.json was changed after signing; model.onnx was changed" in printed
    )
