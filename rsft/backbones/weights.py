"""Manage the weights folder: find files, fetch them, and verify that they are unchanged."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

from rsft.backbones.card import Remote
from rsft.errors import WeightsError
from rsft.types import Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.download import download, fetch_server_sha256, weights_dir

WeightsState = Literal["verified", "unchanged", "first seen"]


class PublishedEncoder(Protocol):
    """An encoder with weights: a card, or an entry of the list of encoders."""

    @property
    def name(self) -> str:
        """The name in a recipe."""

    @property
    def about(self) -> str:
        """One line with architecture and training data."""

    @property
    def weights(self) -> Path | Remote:
        """A file in this package, or a published one."""


@dataclass(frozen=True)
class WeightsStatus:
    """The result of verifying a weights file.

    Attributes:
        path: the file.
        bytes: its size.
        sha256: its hash.
        state: "verified" if the file matches a published checksum, "unchanged" if it matches the digest recorded
            earlier, "first seen" if its digest was recorded just now.
        evidence: the reason for `state`, in one sentence.
    """

    path: Path
    bytes: int
    sha256: str
    state: WeightsState
    evidence: str


def weights_path(card: PublishedEncoder) -> Path:
    """Return the path of an encoder's weights file, which need not exist.

    Args:
        card: the card of the encoder.
    """
    return weights_dir() / card.weights.file if isinstance(card.weights, Remote) else card.weights


def find_weights(card: PublishedEncoder) -> Path:
    """Return the path of an encoder's weights file, which exists.

    Args:
        card: the card of the encoder.

    Raises:
        WeightsError: the file is missing; the message states what to fetch and where to put it.
    """
    path = weights_path(card)
    if not path.is_file():
        raise WeightsError(f"the weights of {card.name} are missing", path, _hint_fetch(card, path))
    return path


def fetch_weights(card: PublishedEncoder, progress: Progress | None = None) -> WeightsStatus:
    """Download the weights of an encoder unless they exist, and verify them.

    Args:
        card: the encoder.
        progress: called with downloaded bytes, total bytes and file name.

    Returns:
        The status of the file.

    Raises:
        WeightsError: the file can only be fetched by hand, or is not the published one.
        DataError: the server cannot be reached or sends another file; the message states what to fetch by hand.
    """
    remote, path = card.weights, weights_path(card)
    if isinstance(remote, Remote) and remote.url and not path.exists():
        published, host = _published_checksum(card), urlsplit(remote.url).hostname
        server_sha256 = None if _is_complete(published) else fetch_server_sha256(remote.url)
        download(remote.url, path, server_sha256 or published, progress=progress)
        if server_sha256:
            _write_record(path, server_sha256)
            return replace(verify_weights(card), state="verified", evidence=f"SHA-256 as {host} states it")
    return verify_weights(card)


def verify_weights(card: PublishedEncoder) -> WeightsStatus:
    """Compare an encoder's weights with the published size and checksum, and with the digest recorded at first sight.

    Args:
        card: the encoder.

    Returns:
        The status of the file.

    Raises:
        WeightsError: the file is missing, has another size, or was changed.
    """
    path, published = find_weights(card), _published_checksum(card)
    words = _record_path(path).read_text(errors="replace").split() if _record_path(path).is_file() else []
    recorded = words[0] if words else None
    actual_bytes, expected_bytes = path.stat().st_size, card.weights.bytes if isinstance(card.weights, Remote) else None
    if expected_bytes is not None and actual_bytes != expected_bytes:
        raise WeightsError(
            f"the file has {actual_bytes:,} bytes, the published one {expected_bytes:,}", path, _hint_refetch(card)
        )
    digest = sha256(path)
    is_md5 = published is not None and published.startswith("md5:")
    if published and not (f"md5:{_md5(path)}" == published if is_md5 else digest.startswith(published)):
        raise WeightsError(f"this is not the published file: its SHA-256 is {digest}", path, _hint_refetch(card))
    if recorded and recorded != digest:
        message = f"the file has changed since it was first verified: its SHA-256 is {digest}, not {recorded}"
        raise WeightsError(message, path, _hint_refetch(card))
    if not recorded and not _is_complete(published):
        _write_record(path, digest)
    note = "the digest is the recorded one" if recorded else f"the digest is recorded in {_record_path(path).name}"
    if published:
        evidence = f"{describe_checksum(card)} as published" + ("" if _is_complete(published) else f"; {note}")
        return WeightsStatus(path, actual_bytes, digest, "verified", evidence)
    state: WeightsState = "unchanged" if recorded else "first seen"
    return WeightsStatus(path, actual_bytes, digest, state, f"no checksum is published; {note}")


def describe_checksum(card: PublishedEncoder) -> str:
    """Return the kind of checksum that is published for an encoder: "SHA-256", "8 digits", "MD5" or "none".

    Args:
        card: the card of the encoder.
    """
    published = _published_checksum(card)
    if published is None:
        return "none"
    if published.startswith("md5:"):
        return "MD5"
    return "SHA-256" if _is_complete(published) else f"{len(published)} digits"


def _published_checksum(card: PublishedEncoder) -> str | None:
    """Return the published checksum as `rsft.utils.download` takes it; packaged weights have it in their model card."""
    if isinstance(card.weights, Remote):
        return card.weights.sha256 or (f"md5:{card.weights.md5}" if card.weights.md5 else None)
    model_card = card.weights.with_suffix(".json")
    return str(json.loads(model_card.read_text())["sha256"]) if model_card.is_file() else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _is_complete(published: str | None) -> bool:
    """Return whether all digits of a SHA-256 are published. For other checksums, rsft records the digest itself."""
    return published is not None and len(published) == 64


def _hint_fetch(card: PublishedEncoder, path: Path) -> str:
    """Return a hint how to get missing weights."""
    remote = card.weights
    if not isinstance(remote, Remote):
        return "reinstall rsft"
    size = f" ({remote.bytes / 1e6:,.0f} MB)" if remote.bytes else ""
    if remote.url is None:
        return f"create or download {remote.file}{size} by hand ({card.about}; {remote.page}) and put it at {path}"
    return f"run `rsft weights get {card.name}`, or download {remote.url}{size} by hand to {path}"


def _hint_refetch(card: PublishedEncoder) -> str:
    return f"move the file away, then {_hint_fetch(card, weights_path(card))}"


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_record(path: Path, digest: str) -> None:
    """Write the digest in the format of sha256sum, so that `sha256sum -c` reads it."""
    write_text(_record_path(path), f"{digest}  {path.name}\n")
