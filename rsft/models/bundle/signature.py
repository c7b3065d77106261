"""Signatures of bundles with a key of elliptic curves, in the format of OpenSSF model signing. No network is used."""

import re
import tempfile
from pathlib import Path
from typing import Any

from rsft.errors import RequestError, WeightsError
from rsft.models.bundle.bundle import find_bundle, open_intact_index
from rsft.utils.atomic_files import write_bytes
from rsft.utils.dependencies import require

SIGNATURE_FILE = ".signature.json"
"""The signature lies in the bundle, so that it is copied with it. Readers of bundles ignore hidden files."""

_EXTRA = "signing"
_CHANGED = re.compile(r"Hash mismatch for \\?'(.*?)\\?':")
_LISTED = {
    "was added after signing": re.compile(r"Extra files found in model '.*?': ([^'\"\]]*)"),
    "is missing": re.compile(r"Missing files in model '.*?': ([^'\"\]]*)"),
}


def sign_bundle(folder: Path, key: Path) -> Path:
    """Sign an intact bundle; replace its signature, if it has one.

    Args:
        folder: a folder as in `find_bundle`.
        key: private key of a NIST curve (P-256, P-384 or P-521) in a PEM file without password.

    Returns:
        The path of the signature.

    Raises:
        RequestError: `folder` contains no bundle, `key` is no such key, or model-signing is not installed.
        WeightsError: a file of the bundle is missing, changed, or not part of it.
    """
    folder, _, _ = open_intact_index(folder)
    config: Any = require("model_signing.signing", _EXTRA).Config()
    try:
        config.use_elliptic_key_signer(private_key=key)
    except Exception as error:
        raise _key_error(key, "private", error) from error
    config.set_hashing_config(_hashing(folder))
    with tempfile.TemporaryDirectory() as temporary:
        config.sign(folder, Path(temporary) / SIGNATURE_FILE)
        write_bytes(folder / SIGNATURE_FILE, (Path(temporary) / SIGNATURE_FILE).read_bytes())
    return folder / SIGNATURE_FILE


def find_signature_faults(folder: Path, key: Path) -> list[str]:
    """Compare all files of a bundle with its signature; hidden files are ignored.

    Args:
        folder: the folder of the bundle.
        key: public key of the person who signed it, in a PEM file.

    Returns:
        One sentence per fault: no signature, another key, or files that were changed, added or removed.

    Raises:
        RequestError: `key` is no public key of a NIST curve, or model-signing is not installed.
    """
    config: Any = require("model_signing.verifying", _EXTRA).Config()
    try:
        config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise _key_error(key, "public", error) from error
    if not (folder / SIGNATURE_FILE).is_file():
        return [f"the bundle is not signed: {SIGNATURE_FILE} is missing"]
    try:
        config.set_hashing_config(_hashing(folder)).verify(folder, folder / SIGNATURE_FILE)
    except Exception as error:  # the library raises many types for a damaged file
        text = str(error)
    else:
        return []
    if text.startswith("Key mismatch"):
        return ["the bundle is signed with another key"]
    if not text.startswith("Signature mismatch"):
        return [f"{SIGNATURE_FILE} is damaged, or not made with this key"]
    faults = [f"{name} was changed after signing" for name in _CHANGED.findall(text)]
    for words, pattern in _LISTED.items():
        faults += [f"{name} {words}" for names in pattern.findall(text) for name in names.split(", ")]
    return faults or ["its files differ from the signed ones"]


def check_signature(folder: Path, key: Path) -> None:
    """Raise an error unless a bundle is unchanged since the owner of a key signed it.

    Args:
        folder: a folder as in `find_bundle`.
        key: public key of the person who signed it, in a PEM file.

    Raises:
        RequestError: `folder` contains no bundle, or `key` is no public key of a NIST curve.
        WeightsError: the bundle is not signed, or its files or signature were changed.
    """
    folder = find_bundle(folder)
    if faults := find_signature_faults(folder, key):
        raise WeightsError("; ".join(faults), folder, "get the bundle again from the person who signed it")


def _hashing(folder: Path) -> Any:
    hidden = [Path(SIGNATURE_FILE), *(Path(path.name) for path in folder.iterdir() if path.name[0] == ".")]
    return require("model_signing.hashing", _EXTRA).Config().set_ignored_paths(paths=hidden, ignore_git_paths=False)


def _key_error(key: Path, kind: str, error: Exception) -> RequestError:
    if isinstance(error, OSError):
        return RequestError(f"the key cannot be read: {error.strerror}", key, "check the path of the key")
    hint = "make a pair with openssl as in docs/security.md"
    return RequestError(f"this is not a {kind} key of the curve P-256, P-384 or P-521 without password", key, hint)
