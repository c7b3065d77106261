"""Keys, and a signed bundle."""

import shutil

import pytest

pytest.importorskip("model_signing")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rsft.plugins.signing.signature import (
    SIGNATURE_FILE,
    sign_bundle,
)

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
