"""Recognize a scene that was copied or moved by its content."""

import hashlib
from pathlib import Path

from rsft.data.imagery.scene_uri import SceneUri
from rsft.utils.cell.client import allow_reading
from rsft.utils.operating_system import path_to_text

_BLOCKS = 64
_BLOCK_BYTES = 16384  # parts of a file that are hashed


def scene_fingerprint(uri: SceneUri) -> str | None:
    """Return a hash of a local scene that changes with its content, not its path.

    It contains the names of the files in a folder, their sizes, and parts of their
    content.

    Returns:
        Hexadecimal digits; None for scenes on servers.
    """
    path = uri.path
    if not path or not path.exists():
        return None
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(path_to_text(file.relative_to(path)).encode())
            _update(digest, file)
    else:
        _update(digest, path)
    return digest.hexdigest()[:32]


def allow_scene(uri: SceneUri, fingerprint: object) -> bool:
    """Let the reader cell read a scene that a table names by its fingerprint.

    Who made the table has read the scene, so it is not one that only the user can read.

    Returns:
        Whether the fingerprint is that of the scene.
    """
    if fingerprint != scene_fingerprint(uri):
        return False
    if fingerprint is None and not uri.is_remote:
        return False
    if uri.path:
        allow_reading(uri.path if uri.path.is_dir() else uri.path.absolute().parent)
    return True


def _update(digest: "hashlib._Hash", path: Path) -> None:
    """Add the size of a file and parts of its content to a hash."""
    size = path.stat().st_size
    digest.update(str(size).encode())
    blocks = _BLOCKS if size > _BLOCK_BYTES else 1
    with path.open("rb") as file:
        for number in range(blocks):
            file.seek(max(0, size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
