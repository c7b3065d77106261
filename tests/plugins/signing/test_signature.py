"""A signature proves that no file of a bundle changed since the owner of a key signed
it."""

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("model_signing")

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
from tests.plugins.signing.conftest import write_keys


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
