"""The folder of weights: what lies there, what is to be fetched, and whether a file is still the one that it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rsft.backbones.card import Card, Remote
from rsft.errors import WeightsError
from rsft.types import Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.download import download, fetch_server_sha256, weights_dir


@dataclass(frozen=True)
class WeightsStatus:
    """A weights file that is as it should be, as far as anybody can tell.

    Attributes:
        path, bytes, sha256: of the file.
        state: "verified" against what is published, "unchanged" since its digest was recorded beside it, or
            "first seen", and recorded now.
        ground: the same at length.
    """

    path: Path
    bytes: int
    sha256: str
    state: Literal["verified", "unchanged", "first seen"]
    ground: str


def weights_path(card: Card) -> Path:
    """Where the weights of `card` are, or would be."""
    return weights_dir() / card.weights.file if isinstance(card.weights, Remote) else card.weights


def find_weights(card: Card) -> Path:
    """The weights file of `card`.

    Raises:
        WeightsError: it is not there; what to fetch, and where to put it.
    """
    path = weights_path(card)
    if not path.is_file():
        raise WeightsError(f"the weights of {card.name} are not here", path, _way(card, path))
    return path


def fetch_weights(card: Card, progress: Progress | None = None) -> WeightsStatus:
    """Fetch the weights of `card`, unless they are there, and verify them.

    Raises:
        WeightsError: they cannot be fetched but by hand, or are not the published ones.
        DataError: the server cannot be reached, or sends another file; what to fetch by hand.
    """
    remote, path = card.weights, weights_path(card)
    if isinstance(remote, Remote) and remote.url and not path.exists():
        published, host = _published(card), urlsplit(remote.url).hostname
        stated = None if _whole(published) else fetch_server_sha256(remote.url)
        download(remote.url, path, stated or published, progress=progress)
        if stated:
            _record(path, stated)
            return replace(verify_weights(card), state="verified", ground=f"SHA-256 as {host} states it")
    return verify_weights(card)


def verify_weights(card: Card) -> WeightsStatus:
    """Hold the weights of `card` against what is published, and against what was recorded when they were first seen.

    Raises:
        WeightsError: they are missing, of another size, or altered.
    """
    path, published, recorded = find_weights(card), _published(card), _recorded(weights_path(card))
    count, wanted = path.stat().st_size, card.weights.bytes if isinstance(card.weights, Remote) else None
    if wanted is not None and count != wanted:
        raise WeightsError(f"the file has {count:,} bytes, the published one {wanted:,}", path, _anew(card))
    digest = sha256(path)
    if published and not _matches(path, digest, published):
        raise WeightsError(f"this is not the published file: its SHA-256 is {digest}", path, _anew(card))
    if recorded and recorded != digest:
        raise WeightsError(
            f"the file has changed since it was first seen: its SHA-256 is {digest}, not {recorded}", path, _anew(card)
        )
    if not recorded and not _whole(published):
        _record(path, digest)
    seen = "the same as when it was recorded" if recorded else f"recorded now in {_beside(path).name}"
    if published:
        ground = f"{describe_checksum(card)} as published" + ("" if _whole(published) else f"; {seen}")
        return WeightsStatus(path, count, digest, "verified", ground)
    return WeightsStatus(
        path, count, digest, "unchanged" if recorded else "first seen", f"no checksum is published; {seen}"
    )


def describe_checksum(card: Card) -> str:
    """How much of a checksum is published: SHA-256, its first digits alone, MD5, or none."""
    published = _published(card)
    if published is None:
        return "none"
    if published.startswith("md5:"):
        return "MD5"
    return "SHA-256" if _whole(published) else f"{len(published)} digits"


def _published(card: Card) -> str | None:
    """The checksum as `rsft.utils.download` takes it; of packaged weights, that of the model card."""
    if isinstance(card.weights, Remote):
        return card.weights.sha256 or (f"md5:{card.weights.md5}" if card.weights.md5 else None)
    sheet = card.weights.with_suffix(".json")
    return str(json.loads(sheet.read_text())["sha256"]) if sheet.is_file() else None


def _matches(path: Path, digest: str, published: str) -> bool:
    if not published.startswith("md5:"):
        return digest.startswith(published)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == published.removeprefix("md5:")


def _whole(published: str | None) -> bool:
    """Whether a SHA-256 is published with every digit; others are backed by a record."""
    return published is not None and len(published) == 64


def _way(card: Card, path: Path) -> str:
    """What to do about missing weights."""
    remote = card.weights
    if not isinstance(remote, Remote):
        return "reinstall rsft"
    size = f" ({remote.bytes / 1e6:,.0f} MB)" if remote.bytes else ""
    if remote.url is None:
        return f"make or fetch {remote.file}{size} by hand ({card.about}; {remote.page}) and put it at {path}"
    return f"run `rsft weights get {card.name}`, or fetch {remote.url}{size} by hand and put it at {path}"


def _anew(card: Card) -> str:
    return f"move the file away; {_way(card, weights_path(card))}"


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    record = _beside(path)
    words = record.read_text(errors="replace").split() if record.is_file() else []
    return words[0] if words else None


def _record(path: Path, digest: str) -> None:
    """As sha256sum writes it, so that `sha256sum -c` reads it."""
    write_text(_beside(path), f"{digest}  {path.name}\n")
