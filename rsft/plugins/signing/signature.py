"""Sign bundles and exports with a key of elliptic curves, without a network.

The format is that of OpenSSF model signing.

A signature covers all files of a folder, and with them what `STATEMENT_FILE` states:
name, version and date.
"""

import hashlib
import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.export_metadata import METADATA_FILE, read_export_metadata
from rsft.models.bundle.bundle import (
    SIGNATURE_FILES,
    Bundle,
    find_bundle,
    open_intact_index,
)
from rsft.utils.atomic_files import write_bytes
from rsft.utils.dependencies import require
from rsft.utils.untrusted.documents import parse_json, read_regular
from rsft.version import __version__

SIGNATURE_FILE, STATEMENT_FILE = SIGNATURE_FILES
_EXTRA = "signing"
_CHANGED = re.compile(r"Hash mismatch for \\?'(.*?)\\?':")
_LISTED = {
    "was added after signing": re.compile(
        r"Extra files found in model '.*?': ([^'\"\]]*)"
    ),
    "is missing": re.compile(r"Missing files in model '.*?': ([^'\"\]]*)"),
}


def sign_bundle(folder: Path, key: Path) -> Path:
    """Sign an intact bundle or an export; replace its signature, if it has one.

    Args:
        folder: a folder as in `find_bundle`, or an export.
        key: private key of a NIST curve (P-256, P-384 or P-521) in a PEM file without
            password.

    Returns:
        The path of the signature.

    Raises:
        RequestError: `folder` contains no bundle, `key` is no such key, or
            model-signing is not installed.
        WeightsError: a file of the bundle is missing, changed, or not part of it.
    """
    if (folder / METADATA_FILE).is_file():
        name = str(read_export_metadata(folder)["recipe"])
    else:
        folder, _ = open_intact_index(folder)
        name = Bundle.load(folder).recipe.name
    config: Any = require("model_signing.signing", _EXTRA).Config()
    try:
        config.use_elliptic_key_signer(private_key=key)
    # the library and cryptography raise many types for a file that is no key
    except Exception as error:
        raise _key_error(key, "private", error) from error
    statement = {"name": name, "rsft_version": __version__}
    statement["signed_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_bytes(folder / STATEMENT_FILE, json.dumps(statement).encode())
    config.set_hashing_config(_hashing(folder))
    with tempfile.TemporaryDirectory() as temporary:
        config.sign(folder, Path(temporary) / SIGNATURE_FILE)
        write_bytes(
            folder / SIGNATURE_FILE, (Path(temporary) / SIGNATURE_FILE).read_bytes()
        )
    return folder / SIGNATURE_FILE


def read_statement(folder: Path) -> dict[str, str]:
    """Return what the signature of a folder states.

    It is only true if `find_signature_faults` finds none.

    Returns:
        The keys "name", "rsft_version" and "signed_at" (ISO 8601, UTC); {} for an older
        signature.
    """
    try:
        statement = parse_json(read_regular(folder / STATEMENT_FILE))
        datetime.fromisoformat(statement["signed_at"])
        return {
            key: str(statement[key]) for key in ("name", "rsft_version", "signed_at")
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def find_signature_faults(
    folder: Path, key: Path, not_before: datetime | None = None
) -> list[str]:
    """Compare all files of a bundle or an export with its signature.

    Other hidden files are ignored.

    Args:
        folder: the folder of the bundle or the export.
        key: public key of the person who signed it, in a PEM file.
        not_before: earliest time of the signature, so that nobody can give an older
            bundle for a newer one.

    Returns:
        One sentence per fault: no signature, another key, an old signature, or files
            that were changed, added or
        removed.

    Raises:
        RequestError: `key` is no public key of a NIST curve, or model-signing is not
            installed.
    """
    config: Any = require("model_signing.verifying", _EXTRA).Config()
    try:
        config.use_elliptic_key_verifier(public_key=key)
    # the library and cryptography raise many types for a file that is no key
    except Exception as error:
        raise _key_error(key, "public", error) from error
    if not (folder / SIGNATURE_FILE).is_file():
        return [f"the folder is not signed: {SIGNATURE_FILE} is missing"]
    try:
        config.set_hashing_config(_hashing(folder)).verify(
            folder, folder / SIGNATURE_FILE
        )
    except Exception as error:  # the library raises many types for a damaged file
        text = str(error)
    else:
        signed_at = read_statement(folder).get("signed_at", "")
        if not_before is None or (
            signed_at and datetime.fromisoformat(signed_at) >= not_before
        ):
            return []
        return [
            f"it was signed at {signed_at or 'an unknown time'}, not after"
            f" {not_before.isoformat()}"
        ]
    if text.startswith("Key mismatch"):
        return ["the folder is signed with another key"]
    if not text.startswith("Signature mismatch"):
        return [f"{SIGNATURE_FILE} is damaged, or not made with this key"]
    faults = [f"{name} was changed after signing" for name in _CHANGED.findall(text)]
    for words, pattern in _LISTED.items():
        for names in pattern.findall(text):
            faults += [f"{name} {words}" for name in names.split(", ")]
    return faults or ["its files differ from the signed ones"]


def check_signature(
    folder: Path, key: Path, not_before: datetime | None = None
) -> dict[str, str]:
    """Raise an error unless files are unchanged since a key's owner signed them.

    Args:
        folder: a folder as in `find_bundle`, or an export.
        key: public key of the person who signed it, in a PEM file.
        not_before: earliest time of the signature.

    Returns:
        What was verified: the folder, what the signature states, and the SHA-256 of the
            signature and of the key.

    Raises:
        RequestError: `folder` contains no bundle, or `key` is no public key of a NIST
            curve.
        WeightsError: the folder is not signed, or its files or signature were changed.
    """
    if not (folder / METADATA_FILE).is_file():
        folder = find_bundle(folder)
    faults = find_signature_faults(folder, key, not_before)
    if faults:
        raise WeightsError(
            "; ".join(faults),
            folder,
            (
                "get it again from the person who signed it; sign an export with `rsft"
                " bundle sign`"
            ),
        )
    files = {"signature_sha256": folder / SIGNATURE_FILE, "key_sha256": key}
    hashes = {
        name: hashlib.sha256(read_regular(path)).hexdigest()
        for name, path in files.items()
    }
    return {"folder": str(folder), **read_statement(folder), **hashes}


def _hashing(folder: Path) -> Any:
    hidden = [
        Path(path.name)
        for path in folder.iterdir()
        if path.name[0] == "." and path.name != STATEMENT_FILE
    ]
    hidden.append(Path(SIGNATURE_FILE))
    return (
        require("model_signing.hashing", _EXTRA)
        .Config()
        .set_ignored_paths(paths=hidden, ignore_git_paths=False)
    )


def _key_error(key: Path, kind: str, error: Exception) -> RequestError:
    if isinstance(error, OSError):
        return RequestError(
            f"the key cannot be read: {error.strerror}",
            key,
            "check the path of the key",
        )
    return RequestError(
        f"this is not a {kind} key of the curve P-256, P-384 or P-521 without password",
        key,
        "make a pair with openssl as in docs/security.md",
    )
