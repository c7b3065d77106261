"""A signature proves that no file of a bundle changed since the owner of a key signed
it."""

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("model_signing")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.verify import verify_bundle
from rsft.plugins.signing import signature
from rsft.plugins.signing.signature import (
    SIGNATURE_FILE,
    STATEMENT_FILE,
    check_signature,
    find_signature_faults,
    read_statement,
    sign_bundle,
)
from tests.helpers.messages import mentions

PEM = serialization.Encoding.PEM


def write_keys(folder, key):
    """Write the private and the public key as PEM files."""
    folder.mkdir()
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "key.pem").write_bytes(private), (folder / "key.pub").write_bytes(public)
    return folder / "key.pem", folder / "key.pub"


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def bundle(run, tmp_path):
    return shutil.copytree(run / "bundle", tmp_path / "bundle")


@pytest.fixture
def signed(bundle, keys):
    assert sign_bundle(bundle, keys[0]) == bundle / SIGNATURE_FILE
    return bundle


def test_a_signed_bundle_opens_as_before_and_keeps_its_signature_when_moved(
    signed, keys, tmp_path
):
    assert find_signature_faults(signed, keys[1]) == []
    assert (
        Bundle.load(signed).sha256
        == json.loads((signed / "bundle.json").read_text())["sha256"]
    )
    moved = shutil.move(signed, tmp_path / "another name")
    verified = check_signature(moved, keys[1])
    assert (
        verified["folder"] == str(moved)
        and verified["name"] == Bundle.load(moved).recipe.name
    )
    assert verified["key_sha256"] == hashlib.sha256(keys[1].read_bytes()).hexdigest()


def test_an_older_signature_is_no_newer_one(signed, keys):
    """Name, version and time are part of what is signed."""
    signed_at = datetime.fromisoformat(read_statement(signed)["signed_at"])
    assert abs(datetime.now(UTC) - signed_at) < timedelta(minutes=5)
    assert find_signature_faults(signed, keys[1], signed_at) == []
    later = signed_at + timedelta(days=1)
    assert find_signature_faults(signed, keys[1], later) == [
        f"it was signed at {signed_at.isoformat()}, not after {later.isoformat()}"
    ]
    for text in (
        json.dumps(read_statement(signed) | {"signed_at": later.isoformat()}),
        "{}",
        "no JSON",
    ):
        (signed / STATEMENT_FILE).write_text(text)
        for day in (None, later):
            assert find_signature_faults(signed, keys[1], day) == [
                ".signed.json was changed after signing"
            ]
    (signed / STATEMENT_FILE).unlink()
    assert find_signature_faults(signed, keys[1], later) == [".signed.json is missing"]


def test_a_signature_without_a_time(bundle, keys, monkeypatch):
    """Earlier versions wrote none."""
    monkeypatch.setattr(
        signature,
        "write_bytes",
        lambda path, data: path.name != STATEMENT_FILE and path.write_bytes(data),
    )
    sign_bundle(bundle, keys[0])
    assert find_signature_faults(bundle, keys[1]) == [] and read_statement(bundle) == {}
    assert "signed_at" not in check_signature(bundle, keys[1])
    assert (
        "at an unknown time"
        in find_signature_faults(bundle, keys[1], datetime.now(UTC))[0]
    )


def test_hidden_files_are_ignored_and_a_second_signature_replaces_the_first(
    signed, keys, tmp_path
):
    (signed / ".DS_Store").touch()
    assert find_signature_faults(signed, keys[1]) == []
    other = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP384R1()))
    sign_bundle(signed, other[0])
    assert find_signature_faults(signed, other[1]) == []
    assert find_signature_faults(signed, keys[1]) == [
        "the folder is signed with another key"
    ]


@pytest.mark.slow
def test_a_bundle_without_signature(bundle, keys):
    fault = "the folder is not signed: .signature.json is missing"
    assert find_signature_faults(bundle, keys[1]) == [fault]
    with pytest.raises(WeightsError, match="not signed"):
        check_signature(bundle, keys[1])


@pytest.mark.slow
def test_a_forged_bundle_with_valid_hashes(signed, keys, tmp_path):
    """Whoever changes a bundle can write new hashes, but no signature."""
    kept = {
        name: (signed / name).read_bytes() for name in (SIGNATURE_FILE, STATEMENT_FILE)
    }
    forged = Bundle.load(signed)
    forged.tensors["gamma"] += 1
    forged.save(signed)
    for name, data in kept.items():
        (signed / name).write_bytes(data)
    assert verify_bundle(signed).faults == []
    assert sorted(find_signature_faults(signed, keys[1])) == [
        "bundle.json was changed after signing",
        "weights.safetensors was changed after signing",
    ]


def test_added_and_missing_files(signed, keys):
    (signed / "notes.txt").touch()
    (signed / "recipe.yaml").unlink()
    assert find_signature_faults(signed, keys[1]) == [
        "notes.txt was added after signing",
        "recipe.yaml is missing",
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", "no JSON", "\0", "[" * 5000])
def test_a_damaged_signature(signed, keys, text):
    (signed / SIGNATURE_FILE).write_text(text)
    assert find_signature_faults(signed, keys[1]) == [
        ".signature.json is damaged, or not made with this key"
    ]


def test_a_signature_whose_payload_was_exchanged(signed, keys):
    content = json.loads((signed / SIGNATURE_FILE).read_text())
    content["dsseEnvelope"]["payload"] = "e30="
    (signed / SIGNATURE_FILE).write_text(json.dumps(content))
    assert find_signature_faults(signed, keys[1]) == [
        ".signature.json is damaged, or not made with this key"
    ]


def test_keys_that_are_none(signed, keys, tmp_path):
    with pytest.raises(RequestError, match="not a public key"):
        find_signature_faults(signed, keys[0])
    with pytest.raises(RequestError, match="not a private key"):
        sign_bundle(signed, keys[1])
    with pytest.raises(RequestError, match=mentions("cannot be read", "No such file")):
        sign_bundle(signed, tmp_path / "nowhere")
    other_kind = write_keys(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(RequestError, match=mentions("private key", "P-256")):
        sign_bundle(signed, other_kind[0])


def test_a_damaged_bundle_is_not_signed(bundle, keys):
    (bundle / "weights.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=mentions("weights.safetensors", "altered")):
        sign_bundle(bundle, keys[0])
    assert not (bundle / SIGNATURE_FILE).exists()


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
